// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) add_subtract_multiply_etc_2980bea8b20c(
    const signed char *__restrict__ b0,
    const signed char *__restrict__ b1,
    signed char *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<signed char, 16> w0 = *(const tj_vector<signed char, 16> *)(b0 + i0);
      const tj_vector<signed char, 16> w1 = *(const tj_vector<signed char, 16> *)(b1 + i0);
      tj_vector<signed char, 16> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const signed char v0 = w0.e[e];
        const signed char v1 = w1.e[e];
        const signed char v2 = (signed char)((unsigned int)v0 + (unsigned int)v1);
        const signed char v3 = (signed char)((unsigned int)v0 - (unsigned int)v1);
        const signed char v4 = (signed char)((unsigned int)v0 * (unsigned int)v1);
        const signed char v5 = v0 > v1 ? v0 : v1;
        const signed char v6 = v0 < v1 ? v0 : v1;
        const signed char v7 = (signed char)(0 - (unsigned int)v0);
        const signed char v8 = v0 < 0 ? (signed char)(0 - (unsigned int)v0) : v0;
        const bool v9 = v0 < 0;
        const signed char v10 = v9 ? -1 : 0;
        const bool v11 = v0 > 0;
        const signed char v12 = v11 ? 1 : v10;
        const signed char v13 = ~v0;
        const signed char v14 = v0 & v1;
        const signed char v15 = v0 | v1;
        const signed char v16 = v0 ^ v1;
        const signed char v17 = v2 ^ v3;
        const signed char v18 = v17 ^ v4;
        const signed char v19 = v18 ^ v5;
        const signed char v20 = v19 ^ v6;
        const signed char v21 = v20 ^ v7;
        const signed char v22 = v21 ^ v8;
        const signed char v23 = v22 ^ v12;
        const signed char v24 = v23 ^ v13;
        const signed char v25 = v24 ^ v14;
        const signed char v26 = v25 ^ v15;
        const signed char v27 = v26 ^ v16;
        w2.e[e] = v27;
      }
      *(tj_vector<signed char, 16> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const signed char v0 = b0[i0];
    const signed char v1 = b1[i0];
    const signed char v2 = (signed char)((unsigned int)v0 + (unsigned int)v1);
    const signed char v3 = (signed char)((unsigned int)v0 - (unsigned int)v1);
    const signed char v4 = (signed char)((unsigned int)v0 * (unsigned int)v1);
    const signed char v5 = v0 > v1 ? v0 : v1;
    const signed char v6 = v0 < v1 ? v0 : v1;
    const signed char v7 = (signed char)(0 - (unsigned int)v0);
    const signed char v8 = v0 < 0 ? (signed char)(0 - (unsigned int)v0) : v0;
    const bool v9 = v0 < 0;
    const signed char v10 = v9 ? -1 : 0;
    const bool v11 = v0 > 0;
    const signed char v12 = v11 ? 1 : v10;
    const signed char v13 = ~v0;
    const signed char v14 = v0 & v1;
    const signed char v15 = v0 | v1;
    const signed char v16 = v0 ^ v1;
    const signed char v17 = v2 ^ v3;
    const signed char v18 = v17 ^ v4;
    const signed char v19 = v18 ^ v5;
    const signed char v20 = v19 ^ v6;
    const signed char v21 = v20 ^ v7;
    const signed char v22 = v21 ^ v8;
    const signed char v23 = v22 ^ v12;
    const signed char v24 = v23 ^ v13;
    const signed char v25 = v24 ^ v14;
    const signed char v26 = v25 ^ v15;
    const signed char v27 = v26 ^ v16;
    b2[i0] = v27;
  }
}
