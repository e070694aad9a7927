// What happens to the flat gradient vector between backward and the optimizer, where the fused
// update does not take it along.
#include "gradient.cuh"
#include "packs.cuh"

namespace gpubp {

// y_i = change(y_i, x_i).
template <class T, class Change>
__device__ inline void change_each(const T* x, T* y, i64 n, const double* guard, Change change) {
  if (!may_update(guard)) return;
  for_packs<PACK<T>>(aligned16(x, y), n, [&](i64 i, auto count) {
    Wide<T> xs[count.value], ys[count.value];
    load(x + i, xs);
    load(y + i, ys);
    for (int j = 0; j < count.value; ++j) ys[j] = change(ys[j], xs[j]);
    store(y + i, ys);
  });
}

// grads += l1 sign(params).
template <class T>
__global__ void l1_penalty(const T* params, T* grads, i64 P, double l1, const double* guard) {
  const auto slope = static_cast<Wide<T>>(l1);
  change_each(params, grads, P, guard, [=](auto g, auto p) { return g + l1_slope(p, slope); });
}

// grads += l2 params.
template <class T>
__global__ void l2_penalty(const T* params, T* grads, i64 P, double l2, const double* guard) {
  const auto factor = static_cast<Wide<T>>(l2);
  change_each(params, grads, P, guard, [=](auto g, auto p) { return g + factor * p; });
}

// grads = min(max(grads, -limit), limit).
template <class T>
__global__ void clip_value(T* grads, i64 P, double limit, const double* guard) {
  const auto most = static_cast<Wide<T>>(limit);
  change_each(grads, grads, P, guard, [=](auto g, auto) { return clipped(g, most); });
}

// grads *= min(1, limit / sqrt(sum squares)), squares of length `parts`.
template <class T>
__global__ void clip_norm(const double* squares, T* grads, i64 parts, i64 P, double limit,
                          const double* guard) {
  const NormFactor<Wide<T>> factor(squares, parts, limit);
  if (!factor.changes()) return;
  change_each(grads, grads, P, guard, [=](auto g, auto) { return factor(g); });
}

// y += x.
template <class T>
__global__ void add(const T* x, T* y, i64 P, const double* guard) {
  change_each(x, y, P, guard, [](auto yi, auto xi) { return yi + xi; });
}

}  // namespace gpubp
