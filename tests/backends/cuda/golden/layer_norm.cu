// To be compiled with -fmad=false: products and sums are rounded one by one.

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) held_32x4x1_reduce_sum_divide_subtract_etc_decd9f264056(
    const double *__restrict__ b0,
    double *__restrict__ b1,
    double *__restrict__ b2,
    const double *__restrict__ b3,
    double *__restrict__ b4,
    const long long n1,
    const long long s1
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < 12; i0 += gridDim.x * 8ll) {
    double read0[4];
    double v1 = -0.0;
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 32 + lane) * 1;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
          const long long i1 = start + e;
          read0[c * 1 + e] = b0[i0 * s1 + i1];
          const double v0 = read0[c * 1 + e];
          v1 = v1 + v0;
        }
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const double other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    const double v2 = v1 / 40.0;
    double v6 = -0.0;
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 32 + lane) * 1;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
          const long long i1 = start + e;
          const double v3 = read0[c * 1 + e];
          const double v4 = v3 - v2;
          const double v5 = v4 * v4;
          v6 = v6 + v5;
        }
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const double other = __shfl_xor_sync(0xffffffffu, v6, half);
      v6 = v6 + other;
    }
    const double v7 = v6 / 40.0;
    const double v8 = v7 + 0x1.4f8b588e368f1p-17;
    const double v9 = sqrt(v8);
    const double v10 = 1.0 / v9;
    if (lane == 0) b1[i0] = v2;
    if (lane == 0) b2[i0] = v7;
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 32 + lane) * 1;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
          const long long i1 = start + e;
          const double v11 = read0[c * 1 + e];
          const double v12 = v11 - v2;
          const double v13 = v12 * v10;
          const double v14 = b3[i1];
          const double v15 = v13 * v14;
          b4[i0 * s1 + i1] = v15;
        }
      }
    }
  }
}
