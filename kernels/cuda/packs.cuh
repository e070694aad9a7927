// Passes over vectors and rows, a pack of neighbours at a time, so that every access has up to 16
// bytes. What does not lie so that it can be had in packs goes element by element.
#pragma once

#include "common.cuh"

namespace gpubp {

// N neighbours in an array, moved by one access.
template <class T, int N>
struct alignas(sizeof(T) * N) Neighbours {
  T at[N];
};

// As many neighbours as an access moves of either type.
template <class S, class T = S>
constexpr int PACK = 16 / (sizeof(S) > sizeof(T) ? sizeof(S) : sizeof(T));

// How many neighbours a call of `work` is to handle; a type, so that they are in registers.
template <int N>
struct Count {
  static constexpr int value = N;
};

template <class T, int N>
__device__ inline void load(const T* array, Wide<T> (&values)[N]) {
  const auto packed = *reinterpret_cast<const Neighbours<T, N>*>(array);
  for (int j = 0; j < N; ++j) values[j] = widen(packed.at[j]);
}

template <class T, class X, int N>
__device__ inline void store(T* array, const X (&values)[N]) {
  Neighbours<T, N> packed;
  for (int j = 0; j < N; ++j) packed.at[j] = narrow<T>(values[j]);
#ifdef __CUDA_ARCH__
  // Said outright: in loops where the compiler steps a pointer of its own, into the middle of a
  // pack, it loses sight of the alignment and stores element by element.
  if constexpr (sizeof packed == 16) {
    __stwb(reinterpret_cast<uint4*>(array), reinterpret_cast<const uint4&>(packed));
    return;
  }
#endif
  *reinterpret_cast<Neighbours<T, N>*>(array) = packed;
}

// Calls work(i, Count<N>()) for the packs of n elements, i the index of the first one, and
// work(i, Count<1>()) for what is left; for all of them unless `packed`.
template <int N, class Work>
__device__ inline void for_packs(bool packed, i64 n, Work work) {
  const i64 whole = packed ? n - n % N : 0;
  // Loops over a grid are not unrolled, for which a thread would begin with a division of 64 bits:
  // what is long enough for a second round has warps enough to hide its loads.
#pragma unroll 1
  for (i64 i = thread_index() * N; i < whole; i += thread_count() * N) work(i, Count<N>());
#pragma unroll 1
  for (i64 i = whole + thread_index(); i < n; i += thread_count()) work(i, Count<1>());
}

template <int N, class Work>
__device__ inline void for_packs_of_rows(i64 rows, i64 n, Work work) {
  // A power of two, so that a thread's place needs no division; a block where rows are long.
  int shift = 0;
  while (1 << shift < BLOCK && static_cast<i64>(N) << shift < n) ++shift;
  const i64 lane = thread_index() & ((1 << shift) - 1);
#pragma unroll 1
  for (i64 row = thread_index() >> shift; row < rows; row += thread_count() >> shift) {
#pragma unroll 1
    for (i64 j = lane * N; j < n; j += static_cast<i64>(N) << shift) work(row, j, Count<N>());
  }
}

// Calls work(row, j, Count<N>()) for the packs of rows of n elements, j the column of the first;
// with Count<1>() for each element unless `packed`, or where rows do not end with a pack.
template <int N, class Work>
__device__ inline void for_rows(bool packed, i64 rows, i64 n, Work work) {
  if (packed && n % N == 0) {
    for_packs_of_rows<N>(rows, n, work);
  } else {
    for_packs_of_rows<1>(rows, n, work);
  }
}

}  // namespace gpubp
