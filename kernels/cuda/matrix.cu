// Bias addition and bias gradient. Products are cuBLASLt's.
#include "columns.cuh"

namespace gpubp {

// out[i,j] = z[i,j] + b[j].
template <class T>
__global__ void bias_add(const T* z, const T* b, T* out, i64 B, i64 O) {
  for_rows<PACK<T>>(aligned16(z, b, out), B, O, [&](i64 row, i64 j, auto count) {
    Wide<T> values[count.value], bias[count.value];
    load(z + row * O + j, values);
    load(b + j, bias);
    for (int k = 0; k < count.value; ++k) values[k] += bias[k];
    store(out + row * O + j, values);
  });
}

// db[j] = sum_i dz[i,j].
template <class T>
__global__ void bias_grad(const T* dz, Wide<T>* db, i64 B, i64 O, double* partials,
                          unsigned* tickets) {
  column_sums<PACK<T>>(aligned16(dz), B, O, db, partials, tickets,
                       [&](i64 i, auto, auto& values) { load(dz + i, values); });
}

}  // namespace gpubp
