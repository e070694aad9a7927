// Activations and their delta kernels: value and slope of each as a function, one pass for all.
//
// An activation's slope is taken of what its contract saves, z or a. Everything is computed in
// Wide<T>; what is stored in bfloat16 is rounded once, and sums are of what was not yet rounded.
#include "columns.cuh"
#include "philox.cuh"
#include "rows.cuh"

namespace gpubp {

// From where on gelu, in both forms, and silu are 0 or z and their slopes 0 or 1, in double too: a
// factor that may be infinite ends there, because 0 times infinity is none of these.
constexpr double FAR = 40, FAR_OF_EXP = 800;

template <class W>
__device__ inline W not_far_below(W z, double far) {
  return z < W(-far) ? W(-far) : z;
}

struct Sigmoid {
  static constexpr bool KEEPS_Z = false;
  template <class W>
  __device__ W value(W z) const {
    return math::sigmoid(z);
  }
  template <class W>
  __device__ W slope(W a) const {
    return a * (1 - a);
  }
};

struct Tanh {
  static constexpr bool KEEPS_Z = false;
  template <class W>
  __device__ W value(W z) const {
    return math::tanh(z);
  }
  template <class W>
  __device__ W slope(W a) const {
    return 1 - a * a;
  }
};

struct Relu {
  static constexpr bool KEEPS_Z = false;
  template <class W>
  __device__ W value(W z) const {
    return z < 0 ? W(0) : z;  // NaN stays: training must see it
  }
  template <class W>
  __device__ W slope(W a) const {
    return a > 0 ? W(1) : a <= 0 ? W(0) : a;  // NaN stays
  }
};

struct LeakyRelu {
  static constexpr bool KEEPS_Z = true;
  double alpha;
  template <class W>
  __device__ W value(W z) const {
    return z > 0 ? z : W(alpha) * z;
  }
  template <class W>
  __device__ W slope(W z) const {
    return z > 0 ? W(1) : z <= 0 ? W(alpha) : z;  // NaN stays
  }
};

struct Elu {
  static constexpr bool KEEPS_Z = true;
  double alpha;
  template <class W>
  __device__ W value(W z) const {
    return z > 0 ? z : W(alpha) * math::expm1(z);
  }
  template <class W>
  __device__ W slope(W z) const {
    return z > 0 ? W(1) : W(alpha) * math::exp(z);
  }
};

struct Gelu {
  static constexpr bool KEEPS_Z = true;
  template <class W>
  __device__ W value(W z) const {
    return not_far_below(z, FAR) * math::normal_cdf(z);
  }
  template <class W>
  __device__ W slope(W z) const {
    const W near = math::within(z, -FAR, FAR);
    return math::normal_cdf(near) + near * math::normal_density(near);
  }
};

struct GeluTanh {
  static constexpr bool KEEPS_Z = true;
  static constexpr double SCALE = 1.5957691216057308;  // 2 sqrt(2 / pi)
  // (1 + tanh(y)) / 2 = sigmoid(2 y), which keeps its digits where tanh(y) is near -1.
  template <class W>
  __device__ W gate(W z) const {
    return math::sigmoid(W(SCALE) * (z + W(0.044715) * z * z * z));
  }
  template <class W>
  __device__ W value(W z) const {
    return not_far_below(z, FAR) * gate(math::within(z, -FAR, FAR));
  }
  template <class W>
  __device__ W slope(W far) const {
    const W z = math::within(far, -FAR, FAR);
    const W s = gate(z);
    const W inner_slope = W(SCALE) * (1 + W(0.134145) * z * z);
    return s + z * s * (1 - s) * inner_slope;
  }
};

struct Silu {
  static constexpr bool KEEPS_Z = true;
  template <class W>
  __device__ W value(W z) const {
    return not_far_below(z, FAR_OF_EXP) * math::sigmoid(z);
  }
  template <class W>
  __device__ W slope(W z) const {
    const W s = math::sigmoid(z);
    return s * (1 + math::within(z, -FAR_OF_EXP, FAR_OF_EXP) * (1 - s));
  }
};

struct Softplus {
  static constexpr bool KEEPS_Z = false;
  template <class W>
  __device__ W value(W z) const {
    return math::softplus(z);
  }
  template <class W>
  __device__ W slope(W a) const {
    return -math::expm1(-a);
  }
};

struct Exponential {
  static constexpr bool KEEPS_Z = false;
  template <class W>
  __device__ W value(W z) const {
    return math::exp(z);
  }
  template <class W>
  __device__ W slope(W a) const {
    return a;
  }
};

// What is done between two steps of a pass where nothing is.
struct Nothing {
  template <class Values>
  __device__ void operator()(Values&, i64) const {}
};

// a = f(z).
template <class T, class F>
__device__ inline void forward(F f, const T* z, T* a, i64 n) {
  for_packs<PACK<T>>(aligned16(z, a), n, [=](i64 i, auto count) {
    Wide<T> x[count.value];
    load(z + i, x);
    for (auto& value : x) value = f.value(value);
    store(a + i, x);
  });
}

// a = f(z + b), then then(a, i) on values that are not rounded yet. `packed` says whether what
// `then` stores to is aligned.
template <class T, class F, class Then>
__device__ inline void add_bias(F f, T* z, const T* __restrict__ b, T* a, i64 B, i64 O, bool packed,
                                Then then) {
  for_rows<PACK<T>>(packed && aligned16(z, b, a), B, O, [=](i64 row, i64 column, auto count) {
    const i64 i = row * O + column;
    Wide<T> x[count.value], shift[count.value];
    load(z + i, x);
    load(b + column, shift);
    for (int j = 0; j < count.value; ++j) x[j] += shift[j];
    if (F::KEEPS_Z) store(z + i, x);
    for (auto& value : x) value = f.value(value);
    store(a + i, x);
    then(x, i);
  });
}

// dz = da · slope(saved) of one pack, after first(da, i); leaves dz, not rounded, in x.
template <class T, class F, class First, int N>
__device__ inline void delta_pack(F f, const T* da, const T* saved, T* dz, i64 i, First first,
                                  Wide<T> (&x)[N]) {
  Wide<T> kept[N];
  load(da + i, x);
  load(saved + i, kept);
  first(x, i);
  for (int j = 0; j < N; ++j) x[j] *= f.slope(kept[j]);
  store(dz + i, x);
}

// dz = da · slope(saved).
template <class T, class F>
__device__ inline void delta(F f, const T* da, const T* saved, T* dz, i64 n) {
  for_packs<PACK<T>>(aligned16(da, saved, dz), n, [=](i64 i, auto count) {
    Wide<T> x[count.value];
    delta_pack(f, da, saved, dz, i, Nothing(), x);
  });
}

// dz = first(da) · slope(saved), db = the sum of dz over rows.
template <class T, class F, class First>
__device__ inline void delta_bias_grad(F f, const T* da, const T* saved, T* dz, Wide<T>* db, i64 B,
                                       i64 O, double* partials, unsigned* tickets, First first) {
  column_sums<PACK<T>>(aligned16(da, saved, dz), B, O, db, partials, tickets,
                       [=](i64 i, auto, auto& x) { delta_pack(f, da, saved, dz, i, first, x); });
}

// The six kernels of an elementwise activation. SCALARS declares what the contract has beside
// operands, each with a comma before it, and the rest of the arguments makes the function of it.
#define ELEMENTWISE(name, SCALARS, ...)                                                           \
  template <class T>                                                                              \
  __global__ void name(const T* z, T* a, i64 n SCALARS) {                                         \
    forward(__VA_ARGS__, z, a, n);                                                                \
  }                                                                                               \
  template <class T>                                                                              \
  __global__ void bias_##name(T* z, const T* b, T* a, i64 B, i64 O SCALARS) {                     \
    add_bias(__VA_ARGS__, z, b, a, B, O, true, Nothing());                                        \
  }                                                                                               \
  template <class T>                                                                              \
  __global__ void bias_##name##_dropout(T* z, const T* b, const i64* seed, const i64* step, T* a, \
                                        T* y, i64 B, i64 O SCALARS, double rate, i64 stream,      \
                                        i64 first) {                                              \
    const Dropout<Wide<T>> dropout(seed, step, rate, stream);                                     \
    add_bias(__VA_ARGS__, z, b, a, B, O, aligned16(y), [=](auto& x, i64 i) {                      \
      dropout.apply(x, first + i);                                                                \
      store(y + i, x);                                                                            \
    });                                                                                           \
  }                                                                                               \
  template <class T>                                                                              \
  __global__ void name##_delta(const T* da, const T* saved, T* dz, i64 n SCALARS) {               \
    delta(__VA_ARGS__, da, saved, dz, n);                                                         \
  }                                                                                               \
  template <class T>                                                                              \
  __global__ void name##_delta_bias_grad(const T* da, const T* saved, T* dz, Wide<T>* db, i64 B,  \
                                         i64 O SCALARS, double* partials, unsigned* tickets) {    \
    delta_bias_grad(__VA_ARGS__, da, saved, dz, db, B, O, partials, tickets, Nothing());          \
  }                                                                                               \
  template <class T>                                                                              \
  __global__ void name##_dropout_delta_bias_grad(                                                 \
      const T* dy, const T* saved, const i64* seed, const i64* step, T* dz, Wide<T>* db, i64 B,   \
      i64 O SCALARS, double rate, i64 stream, i64 first, double* partials, unsigned* tickets) {   \
    const Dropout<Wide<T>> dropout(seed, step, rate, stream);                                     \
    delta_bias_grad(__VA_ARGS__, dy, saved, dz, db, B, O, partials, tickets,                      \
                    [=](auto& x, i64 i) { dropout.apply(x, first + i); });                        \
  }

#define NONE
#define ALPHA , double alpha

ELEMENTWISE(sigmoid, NONE, Sigmoid())
ELEMENTWISE(tanh, NONE, Tanh())
ELEMENTWISE(relu, NONE, Relu())
ELEMENTWISE(leaky_relu, ALPHA, LeakyRelu{alpha})
ELEMENTWISE(elu, ALPHA, Elu{alpha})
ELEMENTWISE(gelu, NONE, Gelu())
ELEMENTWISE(gelu_tanh, NONE, GeluTanh())
ELEMENTWISE(silu, NONE, Silu())
ELEMENTWISE(softplus, NONE, Softplus())
ELEMENTWISE(exponential, NONE, Exponential())

template <class T>
__device__ inline void copy(const T* from, T* to, i64 n) {
  for_packs<PACK<T>>(aligned16(from, to), n, [=](i64 i, auto count) {
    Wide<T> x[count.value];
    load(from + i, x);
    store(to + i, x);
  });
}

template <class T>
__global__ void identity(const T* z, T* a, i64 n) {
  copy(z, a, n);
}

template <class T>
__global__ void identity_delta(const T* da, T* dz, i64 n) {
  copy(da, dz, n);
}

// a_k = exp(z_k - max z) / sum_j exp(z_j - max z), row by row.
template <class T>
__global__ void softmax(const T* z, T* a, i64 B, i64 K) {
  for_rows_of_warps(B, [=](i64 row) {
    const T* zs = z + row * K;
    T* as = a + row * K;
    const Wide<T> top = warp_max(zs, K);
    const Wide<T> total = warp_sum_exp(zs, K, top);
    for_lane(K, [=](i64 k) { as[k] = narrow<T>(math::exp(widen(zs[k]) - top) / total); });
  });
}

// dz_k = a_k (da_k - sum_j a_j da_j), row by row.
template <class T>
__global__ void softmax_delta(const T* da, const T* a, T* dz, i64 B, i64 K) {
  for_rows_of_warps(B, [=](i64 row) {
    const i64 start = row * K;
    Wide<T> inner = 0;
    for_lane(K, [&](i64 k) { inner += widen(a[start + k]) * widen(da[start + k]); });
    inner = warp_sum(inner);
    for_lane(K, [=](i64 k) {
      dz[start + k] = narrow<T>(widen(a[start + k]) * (widen(da[start + k]) - inner));
    });
  });
}

// a_k = z_k - max z - log sum_j exp(z_j - max z), row by row.
template <class T>
__global__ void log_softmax(const T* z, T* a, i64 B, i64 K) {
  for_rows_of_warps(B, [=](i64 row) {
    const T* zs = z + row * K;
    T* as = a + row * K;
    const Wide<T> top = warp_max(zs, K);
    LogSum<Wide<T>> sum;
    for_lane(K, [&](i64 k) { sum.add(math::exp(widen(zs[k]) - top)); });
    const Wide<T> shift = sum.log();
    for_lane(K, [=](i64 k) { as[k] = narrow<T>(widen(zs[k]) - top - shift); });
  });
}

// dz_k = da_k - exp(a_k) sum_j da_j, row by row.
template <class T>
__global__ void log_softmax_delta(const T* da, const T* a, T* dz, i64 B, i64 K) {
  for_rows_of_warps(B, [=](i64 row) {
    const i64 start = row * K;
    Wide<T> total = 0;
    for_lane(K, [&](i64 k) { total += widen(da[start + k]); });
    total = warp_sum(total);
    for_lane(K, [=](i64 k) {
      const Wide<T> share = math::exp(widen(a[start + k]));
      dz[start + k] = narrow<T>(widen(da[start + k]) - share * total);
    });
  });
}

}  // namespace gpubp
