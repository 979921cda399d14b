// To be compiled with -fmad=false: products and sums are rounded one by one.

// Many blocks, in two stages: one warp for each block of the order.
extern "C" __global__ void __launch_bounds__(256, 1) total_reduce_sum_d231abf3995c(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    unsigned int *__restrict__ counters,
    unsigned char *partials
) {
  __shared__ bool is_last;
  __shared__ float row_f32_0[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long blocks = (n0 + 4095) / 4096, all = 1 * blocks;
  const long long groups = (blocks + 7) / 8;
  for (long long item = blockIdx.x; item < 1 * groups; item += gridDim.x) {
    const long long place = item / groups, block = item % groups * 8 + warp;
    if (block < blocks) {
      float part_v1 = -0.0f;
      {
        long long next = block * 4096 + lane;
        const long long end = n0 < (block + 1) * 4096 ? n0 : (block + 1) * 4096;
        for (; next + 224 < end; next += 256) {
          #pragma unroll
          for (int e = 0; e < 8; ++e) {
            const long long i0 = next + e * 32;
            const float v0 = b0[i0];
            part_v1 = part_v1 + v0;
          }
        }
        for (; next < end; next += 32) {
          const long long i0 = next;
          const float v0 = b0[i0];
          part_v1 = part_v1 + v0;
        }
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v1, half);
        part_v1 = part_v1 + other;
      }
      if (lane == 0) ((float *)(partials + 0 * all * 8))[place * blocks + block] = part_v1;
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(&counters[place], 1u) == groups - 1;
    __syncthreads();
    if (is_last) {
      __threadfence();
      float v1 = -0.0f;
      for (long long round = 0; round < blocks; round += 131072) {
        for (int block = warp; block < 32; block += 8) {
          const long long first = round + block * 4096ll;
          if (first >= blocks) break;
          float part_v1 = -0.0f;
          {
            long long next = first + lane;
            const long long end = blocks < first + 4096 ? blocks : first + 4096;
            for (; next + 224 < end; next += 256) {
              #pragma unroll
              for (int e = 0; e < 8; ++e) {
                const long long part = next + e * 32;
                const float vp0 = __ldcg(((float *)(partials + 0 * all * 8)) + place * blocks + part);
                part_v1 = part_v1 + vp0;
              }
            }
            for (; next < end; next += 32) {
              const long long part = next;
              const float vp0 = __ldcg(((float *)(partials + 0 * all * 8)) + place * blocks + part);
              part_v1 = part_v1 + vp0;
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
        if (round + lane * 4096ll < blocks) {
          v1 = v1 + row_f32_0[lane];
        }
        __syncthreads();
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, v1, half);
        v1 = v1 + other;
      }
      if (threadIdx.x == 0) b1[0] = v1;
      if (threadIdx.x == 0) counters[place] = 0;
    }
  }
}
