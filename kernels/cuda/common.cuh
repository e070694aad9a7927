// What every kernel source needs: types, and reductions that always give the same bits. Compiles
// with NVRTC and, for the tests, as host code; it needs no header of either.
//
// Conventions. Blocks are one-dimensional, of BLOCK threads (or of 32 where one thread works). A
// kernel's arguments are the operands of its contract in order (a null pointer for one that is
// absent), the lengths of the contract's axes in order of first use, then its scalars. Those that
// update what outlives a step end with `guard`; those that reduce over blocks with `partials` and
// `tickets`.
#pragma once

namespace gpubp {

using i64 = long long;

constexpr int BLOCK = 256;
constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// The upper half of a float. Arithmetic on it is float arithmetic.
struct bfloat16 {
  unsigned short bits;
};

// What a type is computed and summed in.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<bfloat16> {
  using type = float;
};
template <class T>
using Wide = typename WideOf<T>::type;

template <class T>
__device__ inline Wide<T> widen(T x) {
  return x;
}
template <>
__device__ inline float widen(bfloat16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

__device__ inline float not_a_number() { return __uint_as_float(0x7fc00000u); }

// Rounds to nearest, ties to even; NaN stays NaN.
__device__ inline bfloat16 round_to_bfloat16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  bfloat16 rounded;  // one instruction instead of six
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(x));
  return rounded;
#else
  const unsigned bits = __float_as_uint(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return {static_cast<unsigned short>(nan ? (bits >> 16) | 0x40u : rounded >> 16)};
#endif
}

template <class T>
struct Narrow {
  template <class X>
  __device__ static T from(X x) {
    return static_cast<T>(x);
  }
};
template <>
struct Narrow<bfloat16> {
  template <class X>
  __device__ static bfloat16 from(X x) {
    return round_to_bfloat16(static_cast<float>(x));
  }
};
template <class T, class X>
__device__ inline T narrow(X x) {
  return Narrow<T>::from(x);
}

template <class... P>
__device__ inline bool aligned16(const P*... pointers) {
  return ((reinterpret_cast<unsigned long long>(pointers) | ...) & 15ull) == 0;
}

__device__ inline i64 thread_index() {
  return static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline i64 thread_count() { return static_cast<i64>(gridDim.x) * blockDim.x; }

template <class T>
__device__ inline T warp_sum(T value) {
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(ALL_LANES, value, offset);
  }
  return value;
}

// The sum over a block of BLOCK threads, returned to every thread. Always in the same order.
template <class T>
__device__ inline T block_sum(T value) {
  __shared__ T sums[BLOCK / WARP];
  value = warp_sum(value);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
  __syncthreads();
  T total = sums[0];
  for (int warp = 1; warp < BLOCK / WARP; ++warp) total += sums[warp];
  __syncthreads();
  return total;
}

// True in the block of the last to arrive of `blocks`, which may then read what the others wrote
// before they arrived. The ticket is left at 0, ready for the next launch.
__device__ inline bool last_to_arrive(unsigned* ticket, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(ticket, 1u) == blocks - 1;
    if (last) *ticket = 0;
  }
  __syncthreads();
  __threadfence();
  return last;
}

// Has one thread of the grid return true, with the sum over all threads in *sum: summed in one
// order, whatever block ends last.
__device__ inline bool grid_sum(double value, double* sum, double* partials, unsigned* tickets) {
  value = block_sum(value);
  if (threadIdx.x == 0) partials[blockIdx.x] = value;
  if (!last_to_arrive(tickets, gridDim.x)) return false;
  double mine = 0;
  for (unsigned block = threadIdx.x; block < gridDim.x; block += BLOCK) {
    mine += static_cast<volatile double*>(partials)[block];
  }
  *sum = block_sum(mine);
  return threadIdx.x == 0;
}

// Adds the sum over all threads of the grid to *total; counts are exact.
template <class T>
__device__ inline void grid_add(double value, T* total, double* partials, unsigned* tickets) {
  double sum;
  if (grid_sum(value, &sum, partials, tickets)) *total += static_cast<T>(sum);
}

// Whether an update may go on: a run whose loss is not finite changes nothing any more.
__device__ inline bool may_update(const double* guard) {
  return guard == nullptr || fabs(*guard) <= 1.7976931348623157e308;
}

}  // namespace gpubp
