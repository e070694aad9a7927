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

// min(1, limit / norm) with norm² the sum of `parts` squares; NaN where that is not finite. Where
// it is small, which float has not to all its digits or not at all, its root, twice.
template <class W>
struct NormFactor {
  W first = 1, second = 1;
  __device__ NormFactor() {}
  __device__ NormFactor(const double* squares, i64 parts, double limit) {
    double sum = 0;
    for (i64 i = 0; i < parts; ++i) sum += squares[i];
    const double norm = sqrt(sum);
    if (norm <= limit) return;
    const double factor = sum <= 1.7976931348623157e308 ? limit / norm : sum - sum;
    const bool small = factor < 5.421010862427522e-20;  // 2^-64
    second = static_cast<W>(small ? sqrt(factor) : factor);
    if (small) first = second;
  }
  __device__ bool changes() const { return first != 1 || second != 1; }
  __device__ W operator()(W g) const { return g * first * second; }
};

}  // namespace gpubp
