// Mathematical functions by one name for float and double, and those made of them.
//
// They stand in a namespace of their own: kernels have the names tanh, exponential, sigmoid too.
#pragma once
#include "common.cuh"

namespace gpubp {
namespace math {

__device__ inline float abs(float x) { return ::fabsf(x); }
__device__ inline double abs(double x) { return ::fabs(x); }
__device__ inline float exp(float x) { return ::expf(x); }
__device__ inline double exp(double x) { return ::exp(x); }
__device__ inline float expm1(float x) { return ::expm1f(x); }
__device__ inline double expm1(double x) { return ::expm1(x); }
__device__ inline float log(float x) { return ::logf(x); }
__device__ inline double log(double x) { return ::log(x); }
__device__ inline float log1p(float x) { return ::log1pf(x); }
__device__ inline double log1p(double x) { return ::log1p(x); }
__device__ inline float tanh(float x) { return ::tanhf(x); }
__device__ inline double tanh(double x) { return ::tanh(x); }
__device__ inline float erfc(float x) { return ::erfcf(x); }
__device__ inline double erfc(double x) { return ::erfc(x); }

// -1, 0 or 1; NaN stays.
template <class W>
__device__ inline W sign(W x) {
  return x > 0 ? W(1) : x < 0 ? W(-1) : x;
}

// min(max(x, low), high); NaN stays.
template <class W>
__device__ inline W within(W x, double low, double high) {
  x = x < W(low) ? W(low) : x;
  return x > W(high) ? W(high) : x;
}

// 1 / (1 + exp(-z)), from the exponential that can't overflow.
template <class W>
__device__ inline W sigmoid(W z) {
  const W u = exp(-abs(z));
  return (z < 0 ? u : W(1)) / (1 + u);
}

// log(1 + exp(z)), without overflow and right to the last digits for very negative z.
template <class W>
__device__ inline W softplus(W z) {
  return (z > 0 ? z : W(0)) + log1p(exp(-abs(z)));
}

// Φ(z) = erfc(-z / √2) / 2, which keeps its digits for negative z.
template <class W>
__device__ inline W normal_cdf(W z) {
  return W(0.5) * erfc(z * W(-0.7071067811865476));
}

// φ(z) = exp(-z² / 2) / √(2π).
template <class W>
__device__ inline W normal_density(W z) {
  return W(0.3989422804014327) * exp(W(-0.5) * z * z);
}

}  // namespace math
}  // namespace gpubp
