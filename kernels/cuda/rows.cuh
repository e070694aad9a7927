// Passes in which a warp has a row, its lanes the row's elements in turn.
#pragma once

#include "elementary.cuh"

namespace gpubp {

// Calls work(row) in all lanes of one warp for every row.
template <class Work>
__device__ inline void for_rows_of_warps(i64 rows, Work work) {
#pragma unroll 1  // as in packs.cuh
  for (i64 row = thread_index() / WARP; row < rows; row += thread_count() / WARP) work(row);
}

// Calls work(k) for the lane's share of k = 0 to n.
template <class Work>
__device__ inline void for_lane(i64 n, Work work) {
  for (i64 k = threadIdx.x % WARP; k < n; k += WARP) work(k);
}

// The largest element of a row that is not empty. One that is NaN is passed over unless it is the
// first: whoever goes on to sum exp(z - top) has NaN either way.
template <class T>
__device__ inline Wide<T> warp_max(const T* row, i64 n) {
  Wide<T> top = widen(row[0]);
  for_lane(n, [&](i64 k) {
    const Wide<T> x = widen(row[k]);
    if (x > top) top = x;
  });
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    const Wide<T> other = __shfl_xor_sync(ALL_LANES, top, offset);
    if (other > top) top = other;
  }
  return top;
}

// sum_k exp(z_k - top), in every lane.
template <class T>
__device__ inline Wide<T> warp_sum_exp(const T* row, i64 n, Wide<T> top) {
  Wide<T> total = 0;
  for_lane(n, [&](i64 k) { total += math::exp(widen(row[k]) - top); });
  return warp_sum(total);
}

// log sum_k exp(z_k - top), in every lane. A sum below 2 is 1 and its rest, which has the digits that
// the sum has not.
template <class W>
struct LogSum {
  W total = 0, rest = 0;
  __device__ void add(W e) {
    total += e;
    if (e < 1) rest += e;
  }
  __device__ W log() {
    total = warp_sum(total);
    rest = warp_sum(rest);
    return total < 2 ? math::log1p(rest) : math::log(total);
  }
};

}  // namespace gpubp
