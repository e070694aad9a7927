// The words of CUDA C++ that the kernels use, for a host compiler; grid.hpp runs what they make.
//
// Compiled together with one unchanged source. Blocks are one-dimensional and made of whole warps.
#pragma once

#include <math.h>  // not <cmath>: CUDA has the overloads outside of namespace std

#include <cstdint>
#include <cstring>
#include <utility>

#include "grid.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

inline void __syncthreads(int line = __builtin_LINE()) { host_cuda::grid.wait_for_block(line); }
inline void __threadfence() {}

namespace host_cuda {

template <class To, class From>
To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof value);
  return result;
}

inline void check_whole_warp(unsigned mask) {
  if (mask != 0xffffffffu) grid.fail("a warp's function was called for a part of a warp");
}

template <class T>
T exchange(unsigned mask, T value, unsigned source, int line) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  check_whole_warp(mask);
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  word = grid.exchange(word, source, line);
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline unsigned lane() { return threadIdx.x % LANES; }

}  // namespace host_cuda

inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  host_cuda::check_whole_warp(mask);
  host_cuda::grid.wait_for_warp(line);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int line = __builtin_LINE()) {
  return host_cuda::exchange(mask, value, source % host_cuda::LANES, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int line = __builtin_LINE()) {
  return host_cuda::exchange(mask, value, host_cuda::lane() ^ distance, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int line = __builtin_LINE()) {
  const unsigned source = host_cuda::lane() + distance;
  return host_cuda::exchange(mask, value, source < host_cuda::LANES ? source : host_cuda::lane(),
                             line);
}

// Nothing comes between the two halves of an atomic operation: threads stop at barriers alone.
template <class T>
T atomicAdd(T* target, T value) {
  return std::exchange(*target, *target + value);
}

// What the compiler's check of alignment (-fsanitize) calls where a pointer is not aligned to what
// it is read or written as: a GPU stops there.
struct Misaligned {
  const char* file;
  unsigned line, column;
  const void* type;
  unsigned char log_alignment, kind;
};
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(
    const Misaligned* what, std::uintptr_t address) {
  host_cuda::grid.fail("an access of line " + std::to_string(what->line) + " needs an alignment of " +
                       std::to_string(1 << what->log_alignment) + " bytes, and its address ends with " +
                       std::to_string(address % 256));
}

inline unsigned __float_as_uint(float x) { return host_cuda::bits_as<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return host_cuda::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return host_cuda::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return host_cuda::bits_as<double>(x); }

namespace host_cuda {

template <class... Parameters, std::size_t... At>
void call(void (*kernel)(Parameters...), const std::int64_t* words, std::index_sequence<At...>) {
  static_assert(((sizeof(Parameters) == 8) && ...), "every argument is one word of 8 bytes");
  kernel(bits_as<Parameters>(words[At])...);
}

template <class... Parameters>
const char* run(void (*kernel)(Parameters...), const Launch& launch, const std::int64_t* words) {
  return grid.run([&] { call(kernel, words, std::index_sequence_for<Parameters...>{}); }, launch);
}

// One letter a parameter: p for a pointer, n for a number.
template <class... Parameters>
const char* parameters(void (*)(Parameters...)) {
  static const char letters[] = {(std::is_pointer_v<Parameters> ? 'p' : 'n')..., '\0'};
  return letters;
}

}  // namespace host_cuda

// Gives Python a kernel: how to run it, and what it takes.
#define HOST_CUDA_VISIBLE extern "C" __attribute__((visibility("default")))
#define HOST_CUDA_ENTRY(name, ...)                                                                \
  HOST_CUDA_VISIBLE const char* name(const host_cuda::Launch* launch, const std::int64_t* words) { \
    return host_cuda::run(__VA_ARGS__, *launch, words);                                           \
  }                                                                                               \
  HOST_CUDA_VISIBLE const char* name##_parameters() { return host_cuda::parameters(__VA_ARGS__); }
