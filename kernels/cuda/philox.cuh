// Random words by Philox4x32-10 (Salmon et al. 2011), and the dropout made of them.
//
// A word is a function of its position, so any thread can draw any of them, with no state and in
// any order. The same bits as the reference and the Numba version.
#pragma once

#include "common.cuh"

namespace gpubp {

struct Words {
  unsigned at[4];
};

// The words of counter (block's low half, stream, step low, step high) under the key `seed`.
__device__ inline Words philox(unsigned long long block, unsigned stream, unsigned long long step,
                               unsigned long long seed) {
  using u64 = unsigned long long;
  Words c = {{static_cast<unsigned>(block), stream, static_cast<unsigned>(step),
              static_cast<unsigned>(step >> 32)}};
  unsigned k0 = static_cast<unsigned>(seed), k1 = static_cast<unsigned>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const u64 left = static_cast<u64>(0xD2511F53u) * c.at[0];
    const u64 right = static_cast<u64>(0xCD9E8D57u) * c.at[2];
    c = {{static_cast<unsigned>(right >> 32) ^ c.at[1] ^ k0, static_cast<unsigned>(right),
          static_cast<unsigned>(left >> 32) ^ c.at[3] ^ k1, static_cast<unsigned>(left)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// One stream of one step as a dropout mask: element i is kept where word i is at least
// rate · 2³², and scaled by 1 / (1 - rate), in the type W that values are computed in.
template <class W>
class Dropout {
 public:
  __device__ Dropout(const i64* seed, const i64* step, double rate, i64 stream)
      : seed_(*seed), step_(*step), stream_(static_cast<unsigned>(stream)),
        threshold_(static_cast<unsigned>(rate * 4294967296.0)),
        factor_(static_cast<W>(1 / (1 - rate))) {}

  // Scales or zeroes `values`, which are elements `index` on: one Philox block for four of them
  // where `index` is a multiple of four, else two.
  template <int N>
  __device__ void apply(W (&values)[N], i64 index) const {
    for (int j = 0; j < N; j += 4) {
      const int count = N - j < 4 ? N - j : 4;
      const Words words = words_from(index + j, count);
      for (int k = 0; k < count; ++k) {
        values[j + k] = words.at[k] >= threshold_ ? values[j + k] * factor_ : W(0);
      }
    }
  }

 private:
  __device__ Words words_from(i64 index, int count) const {
    const int skipped = static_cast<int>(index & 3);
    Words words = philox(index >> 2, stream_, step_, seed_);
    if (skipped == 0) return words;
    Words next = words;
    if (skipped + count > 4) next = philox((index >> 2) + 1, stream_, step_, seed_);
    // Shifted by fixed distances: indices that are not constants would put the words in memory.
    Words after = next;
    if (skipped & 1) {
      words = {{words.at[1], words.at[2], words.at[3], next.at[0]}};
      after = {{next.at[1], next.at[2], next.at[3], 0}};
    }
    if (skipped & 2) words = {{words.at[2], words.at[3], after.at[0], after.at[1]}};
    return words;
  }

  unsigned long long seed_, step_;
  unsigned stream_, threshold_;
  W factor_;
};

}  // namespace gpubp
