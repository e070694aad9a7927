// Sums over the rows of each column, in the pass that makes what is summed.
#pragma once

#include "packs.cuh"

namespace gpubp {

constexpr int COLUMNS = 32;  // of a block
using WarpSums = double[BLOCK / WARP][COLUMNS];

// The sum over the block's warps of column threadIdx.x, in the threads of the first warp.
__device__ inline double sum_over_warps(const WarpSums& sums) {
  __syncthreads();
  double total = 0;
  if (threadIdx.x < COLUMNS) {
    for (int warp = 0; warp < BLOCK / WARP; ++warp) total += sums[warp][threadIdx.x];
  }
  __syncthreads();
  return total;
}

// Leaves in `sums` what each warp of a block finds in its chunk of rows. The 32 columns of a row
// are the work of 32 / N threads, so that a block takes 8 N rows at a time.
template <int N, class W, class Work>
__device__ inline void sum_chunk(i64 B, i64 O, WarpSums& sums, Work work) {
  constexpr int ACROSS = COLUMNS / N, DOWN = BLOCK / ACROSS;
  const int place = threadIdx.x % ACROSS * N;
  const i64 column = static_cast<i64>(blockIdx.x) * COLUMNS + place;
  const i64 first = static_cast<i64>(blockIdx.y) * DOWN + threadIdx.x / ACROSS;
  W sum[N] = {};
#pragma unroll 1  // as in packs.cuh
  for (i64 row = first; column < O && row < B; row += static_cast<i64>(gridDim.y) * DOWN) {
    W values[N];
    work(row * O + column, Count<N>(), values);
    for (int j = 0; j < N; ++j) sum[j] += values[j];
  }
  for (int j = 0; j < N; ++j) {
    for (int offset = ACROSS; offset < WARP; offset *= 2) {
      sum[j] += __shfl_xor_sync(ALL_LANES, sum[j], offset);
    }
    if (threadIdx.x % WARP < ACROSS) sums[threadIdx.x / WARP][place + j] = sum[j];
  }
}

// db[j] = sum_i x[i,j]. work(i, Count<N>(), values) finds the N values of x from element i on and
// does with them what else is to be done; N is 1 unless `packed` and rows end with a pack.
//
// Blocks are (32 columns, chunk of rows). Of several chunks the last block to end adds up
// `partials` (chunks, O), always in one order.
template <int N, class W, class Work>
__device__ inline void column_sums(bool packed, i64 B, i64 O, W* db, double* partials,
                                   unsigned* tickets, Work work) {
  __shared__ WarpSums sums;
  if (packed && O % N == 0) {
    sum_chunk<N, W>(B, O, sums, work);
  } else {
    sum_chunk<1, W>(B, O, sums, work);
  }
  const double chunk_sum = sum_over_warps(sums);
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const i64 column = static_cast<i64>(blockIdx.x) * COLUMNS + lane;
  const bool writes = warp == 0 && column < O;
  if (gridDim.y == 1) {
    if (writes) db[column] = static_cast<W>(chunk_sum);
    return;
  }
  if (writes) partials[blockIdx.y * O + column] = chunk_sum;
  if (!last_to_arrive(&tickets[blockIdx.x], gridDim.y)) return;
  double mine = 0;
  for (unsigned chunk = warp; column < O && chunk < gridDim.y; chunk += BLOCK / WARP) {
    mine += static_cast<volatile double*>(partials)[chunk * O + column];
  }
  sums[warp][lane] = mine;
  const double total = sum_over_warps(sums);
  if (writes) db[column] = static_cast<W>(total);
}

}  // namespace gpubp
