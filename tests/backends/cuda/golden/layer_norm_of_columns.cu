// To be compiled with -fmad=false: products and sums are rounded one by one.

// 32 threads of a block for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) narrow_reduce_sum_divide_subtract_etc_52fb46f9915d(
    const double *__restrict__ b0,
    const double *__restrict__ b1,
    double *__restrict__ b2,
    double *__restrict__ b3,
    double *__restrict__ b4,
    const long long n2,
    const long long s1,
    const long long s2
) {
  __shared__ double table_f64[33][9];
  const int lane = threadIdx.x / 8, column = threadIdx.x % 8;
  const long long points = 3ll * 7ll;
  for (long long tile = blockIdx.x; tile * 8 < points; tile += gridDim.x) {
    const bool active = tile * 8 + column < points;
    const long long point = active ? tile * 8 + column : points - 1;
    const long long i0 = point / 7;
    const long long i1 = point % 7;
    const double v0 = b0[i1];
    double v2 = -0.0;
    {
      long long next = lane;
      const long long end = n2;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i2 = next + e * 32;
          const double v1 = b1[i0 * s1 + i2 * s2 + i1];
          v2 = v2 + v1;
        }
      }
      for (; next < end; next += 32) {
        const long long i2 = next;
        const double v1 = b1[i0 * s1 + i2 * s2 + i1];
        v2 = v2 + v1;
      }
    }
    table_f64[lane][column] = v2;
    __syncthreads();
    v2 = table_f64[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const double other = __shfl_xor_sync(0xffffffffu, v2, half);
      v2 = v2 + other;
    }
    if (threadIdx.x % 32 == 0) table_f64[32][threadIdx.x / 32] = v2;
    __syncthreads();
    v2 = table_f64[32][column];
    const double v3 = v2 / 50.0;
    double v7 = -0.0;
    {
      long long next = lane;
      const long long end = n2;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i2 = next + e * 32;
          const double v4 = b1[i0 * s1 + i2 * s2 + i1];
          const double v5 = v4 - v3;
          const double v6 = v5 * v5;
          v7 = v7 + v6;
        }
      }
      for (; next < end; next += 32) {
        const long long i2 = next;
        const double v4 = b1[i0 * s1 + i2 * s2 + i1];
        const double v5 = v4 - v3;
        const double v6 = v5 * v5;
        v7 = v7 + v6;
      }
    }
    table_f64[lane][column] = v7;
    __syncthreads();
    v7 = table_f64[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const double other = __shfl_xor_sync(0xffffffffu, v7, half);
      v7 = v7 + other;
    }
    if (threadIdx.x % 32 == 0) table_f64[32][threadIdx.x / 32] = v7;
    __syncthreads();
    v7 = table_f64[32][column];
    const double v8 = v7 / 50.0;
    const double v9 = v8 + 0x1.4f8b588e368f1p-17;
    const double v10 = sqrt(v9);
    const double v11 = 1.0 / v10;
    if (lane == 0 && active) b2[i0 * s2 + i1] = v3;
    if (lane == 0 && active) b3[i0 * s2 + i1] = v8;
    for (long long i2 = lane; active && i2 < n2; i2 += 32) {
      const double v12 = b1[i0 * s1 + i2 * s2 + i1];
      const double v13 = v12 - v3;
      const double v14 = v13 * v11;
      const double v15 = v14 * v0;
      b4[i0 * s1 + i2 * s2 + i1] = v15;
    }
  }
}
