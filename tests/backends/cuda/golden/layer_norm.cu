// To be compiled with -fmad=false: products and sums are rounded one by one.

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_divide_subtract_etc_decd9f264056(
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
    double v1 = -0.0;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const double v0 = b0[i0 * s1 + i1];
          v1 = v1 + v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const double v0 = b0[i0 * s1 + i1];
        v1 = v1 + v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const double other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    const double v2 = v1 / 40.0;
    double v6 = -0.0;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const double v3 = b0[i0 * s1 + i1];
          const double v4 = v3 - v2;
          const double v5 = v4 * v4;
          v6 = v6 + v5;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const double v3 = b0[i0 * s1 + i1];
        const double v4 = v3 - v2;
        const double v5 = v4 * v4;
        v6 = v6 + v5;
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
    for (long long i1 = lane; i1 < n1; i1 += 32) {
      const double v11 = b0[i0 * s1 + i1];
      const double v12 = v11 - v2;
      const double v13 = v12 * v10;
      const double v14 = b3[i1];
      const double v15 = v13 * v14;
      b4[i0 * s1 + i1] = v15;
    }
  }
}
