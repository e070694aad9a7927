// Random words, and dropout by itself, where no activation takes it along.
#include "packs.cuh"
#include "philox.cuh"

namespace gpubp {

// bits[4 c + j] = word j of block c.
__global__ void random_bits(const i64* seed, const i64* step, unsigned* bits, i64 N, i64 stream) {
  const bool packed = aligned16(bits);
  const i64 key = *seed, time = *step;
  for (i64 i = 4 * thread_index(); i < N; i += 4 * thread_count()) {
    const Words words = philox(i / 4, static_cast<unsigned>(stream), time, key);
    if (packed && i + 4 <= N) {
      store(bits + i, words.at);
    } else {
      for (int j = 0; j < 4 && i + j < N; ++j) bits[i + j] = words.at[j];
    }
  }
}

// y_i = x_i / (1 - rate) where word first + i is at least rate · 2³², else 0.
template <class T>
__device__ inline void drop(const T* x, const i64* seed, const i64* step, T* y, i64 n, double rate,
                            i64 stream, i64 first) {
  constexpr int N = PACK<T>;
  const Dropout<Wide<T>> dropout(seed, step, rate, stream);
  const bool packed = aligned16(x, y);
  // Not for_packs: also values that lie askew are to share a block of words.
  for (i64 i = thread_index() * N; i < n; i += thread_count() * N) {
    const bool whole = packed && i + N <= n;
    Wide<T> values[N] = {};
    if (whole) {
      load(x + i, values);
    } else {
      for (int j = 0; j < N; ++j) values[j] = i + j < n ? widen(x[i + j]) : 0;
    }
    dropout.apply(values, first + i);
    if (whole) {
      store(y + i, values);
    } else {
      for (int j = 0; j < N; ++j) {
        if (i + j < n) y[i + j] = narrow<T>(values[j]);
      }
    }
  }
}

template <class T>
__global__ void dropout(const T* x, const i64* seed, const i64* step, T* y, i64 n, double rate,
                        i64 stream, i64 first) {
  drop(x, seed, step, y, n, rate, stream, first);
}

// The gradient passes where the value passed: the same mask, drawn again rather than stored.
template <class T>
__global__ void dropout_delta(const T* dy, const i64* seed, const i64* step, T* dx, i64 n,
                              double rate, i64 stream, i64 first) {
  drop(dy, seed, step, dx, n, rate, stream, first);
}

}  // namespace gpubp
