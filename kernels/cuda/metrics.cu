// Sums and counts that stay on the device until somebody asks for them. Sums are in float64.
#include "packs.cuh"
#include "rows.cuh"

namespace gpubp {

// total = sum_i x_i².
template <class T>
__global__ void sum_of_squares(const T* __restrict__ x, double* total, i64 P, double* partials,
                               unsigned* tickets) {
  double sum = 0;
  for_packs<PACK<T>>(aligned16(x), P, [&](i64 i, auto count) {
    Wide<T> values[count.value];
    load(x + i, values);
    for (const double value : values) sum += value * value;
  });
  double whole;
  if (grid_sum(sum, &whole, partials, tickets)) *total = whole;
}

// total += sum (z - t)².
template <class Z>
__global__ void sum_of_squared_errors(const Z* __restrict__ z, const Wide<Z>* __restrict__ t,
                                      double* total, i64 B, i64 K, double* partials,
                                      unsigned* tickets) {
  double sum = 0;
  for_packs<PACK<Z, Wide<Z>>>(aligned16(z, t), B * K, [&](i64 i, auto count) {
    Wide<Z> values[count.value], targets[count.value];
    load(z + i, values);
    load(t + i, targets);
    for (int j = 0; j < count.value; ++j) {
      const double error = static_cast<double>(values[j]) - static_cast<double>(targets[j]);
      sum += error * error;
    }
  });
  grid_add(sum, total, partials, tickets);
}

// Adds to *count the number of rows, a warp each, for which right(row) is true.
template <class Right>
__device__ inline void count_rows(i64 B, i64* count, double* partials, unsigned* tickets,
                                  Right right) {
  double rows = 0;
  for_rows_of_warps(B, [&](i64 row) {
    if (right(row) && threadIdx.x % WARP == 0) ++rows;
  });
  grid_add(rows, count, partials, tickets);
}

// Whether x at place i is before y at place j in the search for the largest: the first of equal
// maxima is, and NaN counts as larger than any number.
template <class W>
__device__ inline bool leads(W x, i64 i, W y, i64 j) {
  const bool x_is_nan = x != x, y_is_nan = y != y;
  if (x_is_nan != y_is_nan) return x_is_nan;
  if (x > y || x < y) return x > y;
  return i < j;
}

// The place of the largest element of a row that is not empty, in every lane.
template <class T>
__device__ inline i64 warp_argmax(const T* row, i64 n) {
  Wide<T> best = widen(row[0]);
  i64 at = 0;
  const auto challenge = [&](Wide<T> x, i64 k) {
    if (leads(x, k, best, at)) {
      best = x;
      at = k;
    }
  };
  for_lane(n, [&](i64 k) { challenge(widen(row[k]), k); });
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    const Wide<T> other = __shfl_xor_sync(ALL_LANES, best, offset);
    challenge(other, __shfl_xor_sync(ALL_LANES, at, offset));
  }
  return at;
}

// count += rows whose largest z is at the label.
template <class Z>
__global__ void count_correct(const Z* __restrict__ z, const i64* __restrict__ labels, i64* count,
                              i64 B, i64 K, double* partials, unsigned* tickets) {
  count_rows(B, count, partials, tickets,
             [=](i64 row) { return warp_argmax(z + row * K, K) == labels[row]; });
}

// count += rows where z and t have their largest value in the same place.
template <class Z>
__global__ void count_correct_dense(const Z* __restrict__ z, const Wide<Z>* __restrict__ t,
                                    i64* count, i64 B, i64 K, double* partials,
                                    unsigned* tickets) {
  count_rows(B, count, partials, tickets, [=](i64 row) {
    return warp_argmax(z + row * K, K) == warp_argmax(t + row * K, K);
  });
}

// count += rows where every z is on the side of 0 that t is of ½.
template <class Z>
__global__ void count_correct_binary(const Z* __restrict__ z, const Wide<Z>* __restrict__ t,
                                     i64* count, i64 B, i64 K, double* partials,
                                     unsigned* tickets) {
  count_rows(B, count, partials, tickets, [=](i64 row) {
    int wrong = 0;
    for_lane(K, [&](i64 k) {
      const i64 i = row * K + k;
      wrong += (widen(z[i]) > 0) != (t[i] > Wide<Z>(0.5));
    });
    return warp_sum(wrong) == 0;
  });
}

}  // namespace gpubp
