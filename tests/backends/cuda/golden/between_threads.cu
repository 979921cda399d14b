// To be compiled with -fmad=false: products and sums are rounded one by one.

// One warp for each block.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_6519510f9632(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long blocks
) {
  const int lane = threadIdx.x % 32;
  for (long long block = blockIdx.x * 8ll + threadIdx.x / 32; block < blocks; block += gridDim.x * 8ll) {
    float v1 = -0.0f;
    {
      long long next = block * 4096 + lane;
      const long long end = n0 < (block + 1) * 4096 ? n0 : (block + 1) * 4096;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i0 = next + e * 32;
          const float v0 = b0[i0];
          v1 = v1 + v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i0 = next;
        const float v0 = b0[i0];
        v1 = v1 + v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    if (lane == 0) b1[block] = v1;
  }
}

// One warp.
extern "C" __global__ void __launch_bounds__(32, 1) reduce_sum_8c26bcda8c62(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0
) {
  const int lane = threadIdx.x % 32;
  if (blockIdx.x == 0 && threadIdx.x < 32) {
    float v1 = -0.0f;
    {
      long long next = lane;
      const long long end = n0;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i0 = next + e * 32;
          const float v0 = b0[i0];
          v1 = v1 + v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i0 = next;
        const float v0 = b0[i0];
        v1 = v1 + v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    if (lane == 0) b1[0] = v1;
  }
}
