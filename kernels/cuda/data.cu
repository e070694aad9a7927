// Minibatches out of the data set and results back into an array; the counters that choose them.
//
// A row has n elements, whatever its shape. Values are converted as they are read, so that a data
// set is never copied as a whole.
#include "packs.cuh"

namespace gpubp {

template <int N, class From, class To>
__device__ inline void convert(const From* from, To* to) {
  Wide<From> values[N];
  load(from, values);
  store(to, values);
}

template <class From, class To>
__device__ inline void convert_all(const From* from, To* to, i64 n) {
  for_packs<PACK<From, To>>(aligned16(from, to), n, [&](i64 i, auto count) {
    convert<count.value>(from + i, to + i);
  });
}

// x[i] = source[permutation[row + first + i]].
template <class From, class To>
__global__ void gather(const From* __restrict__ source, const i64* __restrict__ permutation,
                       const i64* row, To* __restrict__ x, i64 /*N*/, i64 n, i64 /*S*/, i64 B,
                       i64 first) {
  const i64 start = *row + first;
  for_rows<PACK<From, To>>(aligned16(source, x), B, n, [&](i64 i, i64 j, auto count) {
    convert<count.value>(source + permutation[start + i] * n + j, x + i * n + j);
  });
}

// x[i] = source[permutation[row + first + i]].
__global__ void gather_labels(const i64* __restrict__ source, const i64* __restrict__ permutation,
                              const i64* row, i64* __restrict__ x, i64 /*N*/, i64 /*S*/, i64 B,
                              i64 first) {
  const i64 start = *row + first;
  for_packs<1>(false, B, [&](i64 i, auto) { x[i] = source[permutation[start + i]]; });
}

// x[i] = source[row + first + i].
template <class From, class To>
__global__ void take_rows(const From* source, const i64* row, To* x, i64 /*N*/, i64 n, i64 B,
                          i64 first) {
  convert_all(source + (*row + first) * n, x, B * n);
}

// x[i] = source[row + first + i].
__global__ void take_labels(const i64* source, const i64* row, i64* x, i64 /*N*/, i64 B,
                            i64 first) {
  convert_all(source + (*row + first), x, B);
}

// out[row + first + i] = x[i].
template <class From>
__global__ void put_rows(const From* x, const i64* row, Wide<From>* out, i64 B, i64 n, i64 /*N*/,
                         i64 first) {
  convert_all(x, out + (*row + first) * n, B * n);
}

// row += rows; step += steps.
__global__ void advance(i64* row, i64* step, i64 rows, i64 steps, const double* guard) {
  if (threadIdx.x > 0 || !may_update(guard)) return;
  *row += rows;
  *step += steps;
}

// lr = rates[step - start].
__global__ void rate(const double* rates, const i64* step, const i64* start, double* lr,
                     i64 /*S*/) {
  if (threadIdx.x == 0) *lr = rates[*step - *start];
}

}  // namespace gpubp
