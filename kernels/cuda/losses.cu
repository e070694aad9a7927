// Losses: value and delta in one pass over z.
//
// A function gives value and slope of each elementwise loss; one pass serves them all. Values are
// computed in Wide<T> and summed in float64. What the mask leaves out, or has no weight, is never
// computed with, so that NaN in it does no harm.
#include "packs.cuh"
#include "rows.cuh"

namespace gpubp {

template <class W>
struct ValueSlope {
  W value, slope;
};

struct Squared {
  template <class W>
  __device__ ValueSlope<W> operator()(W z, W t) const {
    const W r = z - t;
    return {W(0.5) * r * r, r};
  }
};

struct Absolute {
  template <class W>
  __device__ ValueSlope<W> operator()(W z, W t) const {
    return {math::abs(z - t), math::sign(z - t)};
  }
};

struct Huber {
  double threshold;
  template <class W>
  __device__ ValueSlope<W> operator()(W z, W t) const {
    const W r = z - t, d = W(threshold);
    const W slope = r > d ? d : r < -d ? -d : r;
    return {slope * (r - W(0.5) * slope), slope};
  }
};

struct Quantile {
  double q;
  template <class W>
  __device__ ValueSlope<W> operator()(W z, W t) const {
    const W r = z - t;
    const W slope = r < 0 ? W(-q) : W(1 - q);
    return {slope * r, slope * math::abs(math::sign(r))};
  }
};

struct Poisson {
  template <class W>
  __device__ ValueSlope<W> operator()(W z, W t) const {
    const W rate = math::exp(z);
    return {rate - t * z, rate - t};
  }
};

struct SigmoidCrossEntropy {
  template <class W>
  __device__ ValueSlope<W> operator()(W z, W t) const {
    // (1 - t) z or -t z, and 1 - t or -t: neither the value's terms nor the slope's cancel.
    const W u = math::exp(-math::abs(z)), tail = u / (1 + u);
    const W outside = z > 0 ? 1 - t : -t;
    return {outside * z + math::log1p(u), outside + (z > 0 ? -tail : tail)};
  }
};

// loss += scale · sum of w · value, dz = scale · w · slope.
template <class T, class Z, class F>
__device__ inline void elementwise(F f, const Z* z, const Wide<T>* t, const Wide<T>* weights,
                                   const bool* mask, double* loss, T* dz, i64 B, i64 K,
                                   double scale, double* partials, unsigned* tickets) {
  using W = Wide<T>;
  double total = 0;
  const bool packed = aligned16(z, t, mask, dz);
  for_rows<PACK<T, W>>(packed, B, K, [&](i64 row, i64 column, auto count) {
    constexpr int N = count.value;
    const i64 i = row * K + column;
    const bool counts = weights == nullptr || weights[row] != 0;
    const double weight = weights == nullptr ? scale : scale * weights[row];
    W x[N], target[N];
    bool kept[N] = {};
    load(z + i, x);
    load(t + i, target);
    if (mask != nullptr) load(mask + i, kept);
    for (int j = 0; j < N; ++j) {
      if (counts && (mask == nullptr || kept[j])) {
        const ValueSlope<W> of = f(x[j], target[j]);
        total += weight * of.value;
        x[j] = static_cast<W>(weight) * of.slope;
      } else {
        x[j] = 0;
      }
    }
    store(dz + i, x);
  });
  grid_add(total, loss, partials, tickets);
}

// The kernel of an elementwise loss. SCALARS declares what the contract has before `scale`, each
// with a comma before it, and the last argument makes the function of it.
#define ELEMENTWISE(name, SCALARS, ...)                                                           \
  template <class T, class Z>                                                                     \
  __global__ void name(const Z* z, const Wide<T>* t, const Wide<T>* weights, const bool* mask,    \
                       double* loss, T* dz, i64 B, i64 K SCALARS, double scale, double* partials, \
                       unsigned* tickets) {                                                       \
    elementwise(__VA_ARGS__, z, t, weights, mask, loss, dz, B, K, scale, partials, tickets);      \
  }

#define NONE
#define THRESHOLD , double threshold
#define Q , double q

ELEMENTWISE(squared_error, NONE, Squared())
ELEMENTWISE(absolute_error, NONE, Absolute())
ELEMENTWISE(huber, THRESHOLD, Huber{threshold})
ELEMENTWISE(quantile, Q, Quantile{q})
ELEMENTWISE(poisson, NONE, Poisson())
ELEMENTWISE(sigmoid_cross_entropy, NONE, SigmoidCrossEntropy())

// The probabilities p that a row of logits is compared with: of one class, or given.
template <class W>
struct OneHot {
  const i64* labels;
  i64 K;
  __device__ W operator()(i64 row, i64 k) const {
    const i64 label = labels[row];
    return label >= 0 && label < K ? W(k == label) : W(not_a_number());
  }
};

template <class W>
struct Dense {
  const W* t;
  i64 K;
  __device__ W operator()(i64 row, i64 k) const { return t[row * K + k]; }
};

// loss += scale · sum of w · cross-entropy of softmax(z) and smoothed p, a warp a row; dz is its
// gradient. Rows of p may have any sum.
template <class T, class Z, class P>
__device__ inline void cross_entropy(P p, const Z* z, const Wide<T>* weights, const bool* mask,
                                     double* loss, T* dz, i64 B, i64 K, double smoothing,
                                     double scale, double* partials, unsigned* tickets) {
  using W = Wide<T>;
  double sum_loss = 0;
  for_rows_of_warps(B, [&](i64 row) {
    const Z* zs = z + row * K;
    T* ds = dz + row * K;
    if ((mask != nullptr && !mask[row]) || (weights != nullptr && weights[row] == 0)) {
      for_lane(K, [=](i64 k) { ds[k] = narrow<T>(W(0)); });
      return;
    }
    const W top = warp_max(zs, K);
    LogSum<W> sum;
    W plain = 0, agreement = 0, mass = 0;
    for_lane(K, [&](i64 k) {
      const W shifted = widen(zs[k]) - top, pk = p(row, k);
      sum.add(math::exp(shifted));
      plain += shifted;
      mass += pk;
      if (pk != 0) agreement += pk * shifted;  // an impossible class may have a logit of -inf
    });
    const W log_total = sum.log();
    mass = warp_sum(mass);
    const W kept = static_cast<W>(1 - smoothing), spread = static_cast<W>(smoothing / K) * mass;
    W value = mass * log_total - kept * warp_sum(agreement);
    if (smoothing != 0) value -= spread * warp_sum(plain);
    const double weight = weights == nullptr ? scale : scale * weights[row];
    if (threadIdx.x % WARP == 0) sum_loss += weight * value;
    const W w = static_cast<W>(weight), share = w * mass / sum.total;
    for_lane(K, [=](i64 k) {
      const W e = math::exp(widen(zs[k]) - top);
      ds[k] = narrow<T>(e * share - w * (spread + kept * p(row, k)));
    });
  });
  grid_add(sum_loss, loss, partials, tickets);
}

template <class T, class Z>
__global__ void softmax_cross_entropy(const Z* z, const i64* labels, const Wide<T>* weights,
                                      const bool* mask, double* loss, T* dz, i64 B, i64 K,
                                      double smoothing, double scale, double* partials,
                                      unsigned* tickets) {
  cross_entropy(OneHot<Wide<T>>{labels, K}, z, weights, mask, loss, dz, B, K, smoothing, scale, partials,
                tickets);
}

template <class T, class Z>
__global__ void softmax_cross_entropy_dense(const Z* z, const Wide<T>* t, const Wide<T>* weights,
                                            const bool* mask, double* loss, T* dz, i64 B, i64 K,
                                            double smoothing, double scale, double* partials,
                                            unsigned* tickets) {
  cross_entropy(Dense<Wide<T>>{t, K}, z, weights, mask, loss, dz, B, K, smoothing, scale, partials,
                tickets);
}

}  // namespace gpubp
