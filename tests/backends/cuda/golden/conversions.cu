// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// Truncates; below `lowest` is `least`, from `beyond` on `most`, and NaN is 0.
template <typename Integer, typename Float>
__device__ __forceinline__ Integer tj_saturate(Float x, Float lowest, Float beyond, Integer least, Integer most) {
  return x != x ? 0 : x <= lowest ? least : x >= beyond ? most : (Integer)x;
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) convert_xor_d5153764cbf2(
    const double *__restrict__ b0,
    long long *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 2 * 2;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 2; group += gridDim.x * 256ll) {
      const long long i0 = group * 2;
      const tj_vector<double, 2> w0 = *(const tj_vector<double, 2> *)(b0 + i0);
      tj_vector<long long, 2> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 2; ++e) {
        const long long i0 = start + e;
        const double v0 = w0.e[e];
        const bool v1 = v0 != 0.0;
        const long long v2 = (long long)v1;
        const signed char v3 = tj_saturate<signed char>(v0, -128.0, 128.0, -128, 127);
        const long long v4 = (long long)v3;
        const short v5 = tj_saturate<short>(v0, -32768.0, 32768.0, -32768, 32767);
        const long long v6 = (long long)v5;
        const int v7 = tj_saturate<int>(v0, -0x1p+31, 0x1p+31, (-2147483647 - 1), 2147483647);
        const long long v8 = (long long)v7;
        const long long v9 = tj_saturate<long long>(v0, -0x1p+63, 0x1p+63, (-9223372036854775807ll - 1), 9223372036854775807ll);
        const unsigned char v10 = tj_saturate<unsigned char>(v0, 0.0, 256.0, 0, 255);
        const long long v11 = (long long)v10;
        const unsigned short v12 = tj_saturate<unsigned short>(v0, 0.0, 65536.0, 0, 65535);
        const long long v13 = (long long)v12;
        const unsigned int v14 = tj_saturate<unsigned int>(v0, 0.0, 0x1p+32, 0u, 4294967295u);
        const long long v15 = (long long)v14;
        const unsigned long long v16 = tj_saturate<unsigned long long>(v0, 0.0, 0x1p+64, 0ull, 18446744073709551615ull);
        const long long v17 = (long long)v16;
        const long long v18 = v2 ^ v4;
        const long long v19 = v18 ^ v6;
        const long long v20 = v19 ^ v8;
        const long long v21 = v20 ^ v9;
        const long long v22 = v21 ^ v11;
        const long long v23 = v22 ^ v13;
        const long long v24 = v23 ^ v15;
        const long long v25 = v24 ^ v17;
        w1.e[e] = v25;
      }
      *(tj_vector<long long, 2> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const double v0 = b0[i0];
    const bool v1 = v0 != 0.0;
    const long long v2 = (long long)v1;
    const signed char v3 = tj_saturate<signed char>(v0, -128.0, 128.0, -128, 127);
    const long long v4 = (long long)v3;
    const short v5 = tj_saturate<short>(v0, -32768.0, 32768.0, -32768, 32767);
    const long long v6 = (long long)v5;
    const int v7 = tj_saturate<int>(v0, -0x1p+31, 0x1p+31, (-2147483647 - 1), 2147483647);
    const long long v8 = (long long)v7;
    const long long v9 = tj_saturate<long long>(v0, -0x1p+63, 0x1p+63, (-9223372036854775807ll - 1), 9223372036854775807ll);
    const unsigned char v10 = tj_saturate<unsigned char>(v0, 0.0, 256.0, 0, 255);
    const long long v11 = (long long)v10;
    const unsigned short v12 = tj_saturate<unsigned short>(v0, 0.0, 65536.0, 0, 65535);
    const long long v13 = (long long)v12;
    const unsigned int v14 = tj_saturate<unsigned int>(v0, 0.0, 0x1p+32, 0u, 4294967295u);
    const long long v15 = (long long)v14;
    const unsigned long long v16 = tj_saturate<unsigned long long>(v0, 0.0, 0x1p+64, 0ull, 18446744073709551615ull);
    const long long v17 = (long long)v16;
    const long long v18 = v2 ^ v4;
    const long long v19 = v18 ^ v6;
    const long long v20 = v19 ^ v8;
    const long long v21 = v20 ^ v9;
    const long long v22 = v21 ^ v11;
    const long long v23 = v22 ^ v13;
    const long long v24 = v23 ^ v15;
    const long long v25 = v24 ^ v17;
    b1[i0] = v25;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) convert_442405bfaadb(
    const double *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 8 == 0) {
    done = n0 / 2 * 2;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 2; group += gridDim.x * 256ll) {
      const long long i0 = group * 2;
      const tj_vector<double, 2> w0 = *(const tj_vector<double, 2> *)(b0 + i0);
      tj_vector<float, 2> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 2; ++e) {
        const long long i0 = start + e;
        const double v0 = w0.e[e];
        const float v1 = (float)v0;
        w1.e[e] = v1;
      }
      *(tj_vector<float, 2> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const double v0 = b0[i0];
    const float v1 = (float)v0;
    b1[i0] = v1;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) convert_ec1832532bb5(
    const double *__restrict__ b0,
    double *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 2 * 2;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 2; group += gridDim.x * 256ll) {
      const long long i0 = group * 2;
      const tj_vector<double, 2> w0 = *(const tj_vector<double, 2> *)(b0 + i0);
      tj_vector<double, 2> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 2; ++e) {
        const long long i0 = start + e;
        const double v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<double, 2> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const double v0 = b0[i0];
    b1[i0] = v0;
  }
}
