// What is done to one element of the gradient before it is used: in kernels of their own
// (gradients.cu), or within the pass of the optimizer (optimizers.cu), to the same bits.
#pragma once

#include "common.cuh"

namespace gpubp {

// l1 sign(p). What is neither above nor below 0 is itself the answer: 0, or NaN.
template <class T>
__device__ inline T l1_slope(T p, T l1) {
  return p > 0 ? l1 : p < 0 ? -l1 : p;
}

// min(max(g, -limit), limit); NaN stays.
template <class T>
__device__ inline T clipped(T g, T limit) {
  g = g > limit ? limit : g;
  return g < -limit ? -limit : g;
}

// min(1, limit / norm) with norm² the sum of `parts` squares; NaN where the norm is NaN.
__device__ inline double norm_factor(const double* squares, i64 parts, double limit) {
  double sum = 0;
  for (i64 i = 0; i < parts; ++i) sum += squares[i];
  const double norm = sqrt(sum);
  return norm <= limit ? 1 : limit / norm;
}

}  // namespace gpubp
