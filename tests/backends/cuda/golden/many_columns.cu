// To be compiled with -fmad=false: products and sums are rounded one by one.

// 32 threads of a block for each i0.
extern "C" __global__ void __launch_bounds__(512, 1) reduce_sum_c761f36a678e(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  __shared__ float table_f32[33][17];
  const int lane = threadIdx.x / 16, column = threadIdx.x % 16;
  for (long long tile = blockIdx.x; tile * 16 < n0; tile += gridDim.x) {
    const bool active = tile * 16 + column < n0;
    const long long i0 = active ? tile * 16 + column : n0 - 1;
    float v1 = -0.0f;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const float v0 = b0[i1 * s2 + i0];
          v1 = v1 + v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const float v0 = b0[i1 * s2 + i0];
        v1 = v1 + v0;
      }
    }
    table_f32[lane][column] = v1;
    __syncthreads();
    v1 = table_f32[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    if (threadIdx.x % 32 == 0) table_f32[32][threadIdx.x / 32] = v1;
    __syncthreads();
    v1 = table_f32[32][column];
    if (lane == 0 && active) b1[i0] = v1;
  }
}
