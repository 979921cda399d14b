// To be compiled with -fmad=false: products and sums are rounded one by one.

// One block for each i0.
extern "C" __global__ void __launch_bounds__(512, 1) rows_reduce_sum_8340f5469e96(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  __shared__ float row_f32_0[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (long long i0 = blockIdx.x; i0 < n0; i0 += gridDim.x) {
    float v1 = -0.0f;
    for (long long round = 0; round < n1; round += 131072) {
      for (int block = warp; block < 32; block += 16) {
        const long long first = round + block * 4096ll;
        if (first >= n1) break;
        float part_v1 = -0.0f;
        {
          long long next = first + lane;
          const long long end = n1 < first + 4096 ? n1 : first + 4096;
          for (; next + 224 < end; next += 256) {
            #pragma unroll
            for (int e = 0; e < 8; ++e) {
              const long long i1 = next + e * 32;
              const float v0 = b0[i0 * s2 + i1];
              part_v1 = part_v1 + v0;
            }
          }
          for (; next < end; next += 32) {
            const long long i1 = next;
            const float v0 = b0[i0 * s2 + i1];
            part_v1 = part_v1 + v0;
          }
        }
        #pragma unroll
        for (int half = 16; half > 0; half /= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, part_v1, half);
          part_v1 = part_v1 + other;
        }
        if (lane == 0) row_f32_0[block] = part_v1;
      }
      __syncthreads();
      if (round + lane * 4096ll < n1) {
        v1 = v1 + row_f32_0[lane];
      }
      __syncthreads();
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    if (threadIdx.x == 0) b1[i0] = v1;
  }
}
