// Optimizers: one pass over the flat vectors of parameters, gradients and state.
//
// Each rule is a functor that updates one element, p and its state, from its gradient g. A plain
// kernel (adam) applies it as it is; the fused one (adam_update) takes along in the same pass what
// the gradient goes through before and the rounding of the parameters after. Factors are computed
// in double and rounded once, to the type W that elements are computed in.
#include "gradient.cuh"
#include "packs.cuh"

namespace gpubp {

// params -= lr g.
template <class T, class W = Wide<T>>
struct Sgd {
  static constexpr int STATES = 0;
  W rate;
  __device__ Sgd(const double* lr) : rate(static_cast<W>(*lr)) {}
  __device__ void operator()(i64, W g, W&, W&, W& p) const { p -= rate * g; }
};

// velocity = momentum velocity - lr g; params += velocity.
template <class T, class W = Wide<T>>
struct Momentum {
  static constexpr int STATES = 1;
  W rate, momentum;
  __device__ Momentum(const double* lr, double momentum)
      : rate(static_cast<W>(*lr)), momentum(static_cast<W>(momentum)) {}
  __device__ void operator()(i64, W g, W& velocity, W&, W& p) const {
    velocity = momentum * velocity - rate * g;
    p += velocity;
  }
};

// velocity = momentum velocity - lr g; params += momentum velocity - lr g.
template <class T, class W = Wide<T>>
struct Nesterov {
  static constexpr int STATES = 1;
  W rate, momentum;
  __device__ Nesterov(const double* lr, double momentum)
      : rate(static_cast<W>(*lr)), momentum(static_cast<W>(momentum)) {}
  __device__ void operator()(i64, W g, W& velocity, W&, W& p) const {
    const W down = rate * g;
    velocity = momentum * velocity - down;
    p += momentum * velocity - down;
  }
};

// base to the power of n by squaring: a short chain where pow() is a long one, and its error of
// about n ulp of a number that by then is small is nothing beside 1.
__device__ inline double power(double base, i64 n) {
  double result = 1;
  for (; n > 0; n >>= 1, base *= base) {
    if (n & 1) result *= base;
  }
  return result;
}

// The first `decaying` params *= 1 - lr weight_decay; then, with t = step + 1,
// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²;
// params -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps).
template <class T, class W = Wide<T>>
struct Adam {
  static constexpr int STATES = 2;
  W beta1, beta2, take1, take2, eps, rate, unbias, keep;
  i64 decaying;
  __device__ Adam(const double* lr, const i64* step, double beta1, double beta2, double eps,
                  double weight_decay = 0, i64 decaying = 0)
      : beta1(static_cast<W>(beta1)), beta2(static_cast<W>(beta2)),
        take1(static_cast<W>(1 - beta1)), take2(static_cast<W>(1 - beta2)),
        eps(static_cast<W>(eps)),
        rate(static_cast<W>(*lr / (1 - power(beta1, *step + 1)))),
        unbias(static_cast<W>(1 / sqrt(1 - power(beta2, *step + 1)))),
        keep(static_cast<W>(1 - *lr * weight_decay)), decaying(decaying) {}
  __device__ void operator()(i64 i, W g, W& m, W& v, W& p) const {
    if (i < decaying) p *= keep;
    m = beta1 * m + take1 * g;
    v = beta2 * v + take2 * g * g;
    p -= rate * m / (sqrt(v) * unbias + eps);
  }
};

// v = rho v + (1 - rho) g²; params -= lr g / (sqrt(v) + eps).
template <class T, class W = Wide<T>>
struct RmsProp {
  static constexpr int STATES = 1;
  W rate, rho, take, eps;
  __device__ RmsProp(const double* lr, double rho, double eps)
      : rate(static_cast<W>(*lr)), rho(static_cast<W>(rho)), take(static_cast<W>(1 - rho)),
        eps(static_cast<W>(eps)) {}
  __device__ void operator()(i64, W g, W& v, W&, W& p) const {
    v = rho * v + take * g * g;
    p -= rate * g / (sqrt(v) + eps);
  }
};

// v += g²; params -= lr g / (sqrt(v) + eps).
template <class T, class W = Wide<T>>
struct AdaGrad {
  static constexpr int STATES = 1;
  W rate, eps;
  __device__ AdaGrad(const double* lr, double eps)
      : rate(static_cast<W>(*lr)), eps(static_cast<W>(eps)) {}
  __device__ void operator()(i64, W g, W& v, W&, W& p) const {
    v += g * g;
    p -= rate * g / (sqrt(v) + eps);
  }
};

// What a gradient goes through before the update, nothing if not said; 0 leaves a step out.
template <class T, class W = Wide<T>>
struct Before {
  T* grads = nullptr;  // where it is written back to, if it changes
  W l1 = 0, l2 = 0;
  i64 decaying = 0;  // how many elements, from the first, have penalties
  W limit = 0;
  NormFactor<W> factor;

  __device__ Before() {}
  __device__ Before(T* grads, const double* squares, i64 parts, double l1, double l2, i64 decaying,
                    double clip_value, double clip_norm)
      : l1(static_cast<W>(l1)), l2(static_cast<W>(l2)), decaying(decaying),
        limit(static_cast<W>(clip_value)) {
    if (clip_norm > 0) factor = NormFactor<W>(squares, parts, clip_norm);
    const bool penalised = decaying > 0 && (l1 != 0 || l2 != 0);
    if (penalised || limit > 0 || factor.changes()) this->grads = grads;
  }
  __device__ W operator()(i64 i, W g, W p) const {
    if (i < decaying) {
      if (l1 != 0) g += l1_slope(p, l1);
      if (l2 != 0) g += l2 * p;
    }
    if (limit > 0) g = clipped(g, limit);
    return factor(g);
  }
};

// Applies a rule to P elements; `first` and `second` are the rule's state, as far as it has any.
template <class T, class Rule>
__device__ inline void update(const double* guard, const Rule& rule, const T* grads, T* first,
                              T* second, T* params, i64 P, const Before<T>& before = {},
                              bfloat16* rounded = nullptr) {
  if (!may_update(guard)) return;
  const bool packed = aligned16(grads, first, second, params, rounded);
  for_packs<PACK<T>>(packed, P, [&](i64 i, auto count) {
    Wide<T> g[count.value], s1[count.value], s2[count.value], p[count.value];
    load(grads + i, g);
    load(params + i, p);
    if constexpr (Rule::STATES > 0) load(first + i, s1);
    if constexpr (Rule::STATES > 1) load(second + i, s2);
    for (int j = 0; j < count.value; ++j) {
      g[j] = before(i + j, g[j], p[j]);
      rule(i + j, g[j], s1[j], s2[j], p[j]);
    }
    if (before.grads) store(before.grads + i, g);
    if constexpr (Rule::STATES > 0) store(first + i, s1);
    if constexpr (Rule::STATES > 1) store(second + i, s2);
    store(params + i, p);
    if (rounded) store(rounded + i, p);
  });
}

template <class T>
__global__ void sgd(const T* grads, const double* lr, T* params, i64 P, const double* guard) {
  update<T>(guard, Sgd<T>(lr), grads, nullptr, nullptr, params, P);
}

template <class T>
__global__ void sgd_update(T* grads, const double* lr, const double* squares, T* params,
                           bfloat16* rounded, i64 P, i64 parts, double l1, double l2, i64 decaying,
                           double clip_value, double clip_norm, const double* guard) {
  const Before<T> before(grads, squares, parts, l1, l2, decaying, clip_value, clip_norm);
  update<T>(guard, Sgd<T>(lr), grads, nullptr, nullptr, params, P, before, rounded);
}

template <class T>
__global__ void momentum(const T* grads, const double* lr, T* velocity, T* params, i64 P,
                         double momentum, const double* guard) {
  update<T>(guard, Momentum<T>(lr, momentum), grads, velocity, nullptr, params, P);
}

template <class T>
__global__ void momentum_update(T* grads, const double* lr, const double* squares, T* velocity,
                                T* params, bfloat16* rounded, i64 P, i64 parts, double momentum,
                                double l1, double l2, i64 decaying, double clip_value,
                                double clip_norm, const double* guard) {
  const Before<T> before(grads, squares, parts, l1, l2, decaying, clip_value, clip_norm);
  update<T>(guard, Momentum<T>(lr, momentum), grads, velocity, nullptr, params, P, before,
            rounded);
}

template <class T>
__global__ void nesterov(const T* grads, const double* lr, T* velocity, T* params, i64 P,
                         double momentum, const double* guard) {
  update<T>(guard, Nesterov<T>(lr, momentum), grads, velocity, nullptr, params, P);
}

template <class T>
__global__ void nesterov_update(T* grads, const double* lr, const double* squares, T* velocity,
                                T* params, bfloat16* rounded, i64 P, i64 parts, double momentum,
                                double l1, double l2, i64 decaying, double clip_value,
                                double clip_norm, const double* guard) {
  const Before<T> before(grads, squares, parts, l1, l2, decaying, clip_value, clip_norm);
  update<T>(guard, Nesterov<T>(lr, momentum), grads, velocity, nullptr, params, P, before,
            rounded);
}

template <class T>
__global__ void adam(const T* grads, const double* lr, const i64* step, T* m, T* v, T* params,
                     i64 P, double beta1, double beta2, double eps, const double* guard) {
  update<T>(guard, Adam<T>(lr, step, beta1, beta2, eps), grads, m, v, params, P);
}

template <class T>
__global__ void adam_update(T* grads, const double* lr, const i64* step, const double* squares,
                            T* m, T* v, T* params, bfloat16* rounded, i64 P, i64 parts,
                            double beta1, double beta2, double eps, double l1, double l2,
                            i64 decaying, double clip_value, double clip_norm,
                            const double* guard) {
  const Before<T> before(grads, squares, parts, l1, l2, decaying, clip_value, clip_norm);
  update<T>(guard, Adam<T>(lr, step, beta1, beta2, eps), grads, m, v, params, P, before, rounded);
}

template <class T>
__global__ void adamw(const T* grads, const double* lr, const i64* step, T* m, T* v, T* params,
                      i64 P, double beta1, double beta2, double eps, double weight_decay,
                      const double* guard) {
  update<T>(guard, Adam<T>(lr, step, beta1, beta2, eps, weight_decay, P), grads, m, v, params, P);
}

template <class T>
__global__ void adamw_update(T* grads, const double* lr, const i64* step, const double* squares,
                             T* m, T* v, T* params, bfloat16* rounded, i64 P, i64 parts,
                             double beta1, double beta2, double eps, double weight_decay, double l1,
                             double l2, i64 decaying, double clip_value, double clip_norm,
                             const double* guard) {
  const Before<T> before(grads, squares, parts, l1, l2, decaying, clip_value, clip_norm);
  update<T>(guard, Adam<T>(lr, step, beta1, beta2, eps, weight_decay, decaying), grads, m, v,
            params, P, before, rounded);
}

template <class T>
__global__ void rmsprop(const T* grads, const double* lr, T* v, T* params, i64 P, double rho,
                        double eps, const double* guard) {
  update<T>(guard, RmsProp<T>(lr, rho, eps), grads, v, nullptr, params, P);
}

template <class T>
__global__ void rmsprop_update(T* grads, const double* lr, const double* squares, T* v, T* params,
                               bfloat16* rounded, i64 P, i64 parts, double rho, double eps,
                               double l1, double l2, i64 decaying, double clip_value,
                               double clip_norm, const double* guard) {
  const Before<T> before(grads, squares, parts, l1, l2, decaying, clip_value, clip_norm);
  update<T>(guard, RmsProp<T>(lr, rho, eps), grads, v, nullptr, params, P, before, rounded);
}

template <class T>
__global__ void adagrad(const T* grads, const double* lr, T* v, T* params, i64 P, double eps,
                        const double* guard) {
  update<T>(guard, AdaGrad<T>(lr, eps), grads, v, nullptr, params, P);
}

template <class T>
__global__ void adagrad_update(T* grads, const double* lr, const double* squares, T* v, T* params,
                               bfloat16* rounded, i64 P, i64 parts, double eps, double l1,
                               double l2, i64 decaying, double clip_value, double clip_norm,
                               const double* guard) {
  const Before<T> before(grads, squares, parts, l1, l2, decaying, clip_value, clip_norm);
  update<T>(guard, AdaGrad<T>(lr, eps), grads, v, nullptr, params, P, before, rounded);
}

// rounded = params, to the nearest bfloat16.
template <class T>
__global__ void round_bfloat16(const T* params, bfloat16* rounded, i64 P, const double* guard) {
  if (!may_update(guard)) return;
  for_packs<PACK<T>>(aligned16(params, rounded), P, [&](i64 i, auto count) {
    Wide<T> p[count.value];
    load(params + i, p);
    store(rounded + i, p);
  });
}

}  // namespace gpubp
