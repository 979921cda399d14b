// To be compiled with -fmad=false: products and sums are rounded one by one.

// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_maximum(T x, T y) {
  if (x == y) return x == 0 ? x + y : x;
  return x > y ? x : y > x ? y : x + y;
}

// Many blocks, in two stages: one warp for each block of the order.
extern "C" __global__ void __launch_bounds__(256, 1) total_abs_reduce_sum_divide_etc_e6e530ecf845(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    float *__restrict__ b2,
    float *__restrict__ b3,
    const long long n0,
    unsigned int *__restrict__ counters,
    unsigned char *partials
) {
  __shared__ bool is_last;
  __shared__ float row_f32_0[32];
  __shared__ float row_f32_1[32];
  __shared__ float row_f32_2[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long blocks = (n0 + 4095) / 4096, all = 1 * blocks;
  const long long groups = (blocks + 7) / 8;
  for (long long item = blockIdx.x; item < 1 * groups; item += gridDim.x) {
    const long long place = item / groups, block = item % groups * 8 + warp;
    if (block < blocks) {
      float part_v3 = -0.0f;
      float part_v4 = __int_as_float(0xff800000);
      float part_v5 = -0.0f;
      {
        long long next = block * 4096 + lane;
        const long long end = n0 < (block + 1) * 4096 ? n0 : (block + 1) * 4096;
        for (; next + 224 < end; next += 256) {
          #pragma unroll
          for (int e = 0; e < 8; ++e) {
            const long long i0 = next + e * 32;
            const float v0 = b0[i0];
            const float v1 = fabsf(v0);
            const float v2 = v0 * v0;
            part_v3 = part_v3 + v1;
            part_v4 = tj_maximum(part_v4, v1);
            part_v5 = part_v5 + v2;
          }
        }
        for (; next < end; next += 32) {
          const long long i0 = next;
          const float v0 = b0[i0];
          const float v1 = fabsf(v0);
          const float v2 = v0 * v0;
          part_v3 = part_v3 + v1;
          part_v4 = tj_maximum(part_v4, v1);
          part_v5 = part_v5 + v2;
        }
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v3, half);
        part_v3 = part_v3 + other;
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v4, half);
        part_v4 = tj_maximum(part_v4, other);
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v5, half);
        part_v5 = part_v5 + other;
      }
      if (lane == 0) ((float *)(partials + 0 * all * 8))[place * blocks + block] = part_v3;
      if (lane == 0) ((float *)(partials + 1 * all * 8))[place * blocks + block] = part_v4;
      if (lane == 0) ((float *)(partials + 2 * all * 8))[place * blocks + block] = part_v5;
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(&counters[place], 1u) == groups - 1;
    __syncthreads();
    if (is_last) {
      __threadfence();
      float v3 = -0.0f;
      float v4 = __int_as_float(0xff800000);
      float v5 = -0.0f;
      for (long long round = 0; round < blocks; round += 131072) {
        for (int block = warp; block < 32; block += 8) {
          const long long first = round + block * 4096ll;
          if (first >= blocks) break;
          float part_v3 = -0.0f;
          float part_v4 = __int_as_float(0xff800000);
          float part_v5 = -0.0f;
          {
            long long next = first + lane;
            const long long end = blocks < first + 4096 ? blocks : first + 4096;
            for (; next + 224 < end; next += 256) {
              #pragma unroll
              for (int e = 0; e < 8; ++e) {
                const long long part = next + e * 32;
                const float vp0 = __ldcg(((float *)(partials + 0 * all * 8)) + place * blocks + part);
                const float vp1 = __ldcg(((float *)(partials + 1 * all * 8)) + place * blocks + part);
                const float vp2 = __ldcg(((float *)(partials + 2 * all * 8)) + place * blocks + part);
                part_v3 = part_v3 + vp0;
                part_v4 = tj_maximum(part_v4, vp1);
                part_v5 = part_v5 + vp2;
              }
            }
            for (; next < end; next += 32) {
              const long long part = next;
              const float vp0 = __ldcg(((float *)(partials + 0 * all * 8)) + place * blocks + part);
              const float vp1 = __ldcg(((float *)(partials + 1 * all * 8)) + place * blocks + part);
              const float vp2 = __ldcg(((float *)(partials + 2 * all * 8)) + place * blocks + part);
              part_v3 = part_v3 + vp0;
              part_v4 = tj_maximum(part_v4, vp1);
              part_v5 = part_v5 + vp2;
            }
          }
          #pragma unroll
          for (int half = 16; half > 0; half /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, part_v3, half);
            part_v3 = part_v3 + other;
          }
          #pragma unroll
          for (int half = 16; half > 0; half /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, part_v4, half);
            part_v4 = tj_maximum(part_v4, other);
          }
          #pragma unroll
          for (int half = 16; half > 0; half /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, part_v5, half);
            part_v5 = part_v5 + other;
          }
          if (lane == 0) row_f32_0[block] = part_v3;
          if (lane == 0) row_f32_1[block] = part_v4;
          if (lane == 0) row_f32_2[block] = part_v5;
        }
        __syncthreads();
        if (round + lane * 4096ll < blocks) {
          v3 = v3 + row_f32_0[lane];
          v4 = tj_maximum(v4, row_f32_1[lane]);
          v5 = v5 + row_f32_2[lane];
        }
        __syncthreads();
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, v3, half);
        v3 = v3 + other;
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, v4, half);
        v4 = tj_maximum(v4, other);
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, v5, half);
        v5 = v5 + other;
      }
      const float v6 = v3 / 70001.0f;
      const float v7 = v5 / 70001.0f;
      const float v8 = sqrtf(v7);
      if (threadIdx.x == 0) b1[0] = v6;
      if (threadIdx.x == 0) b2[0] = v4;
      if (threadIdx.x == 0) b3[0] = v8;
      if (threadIdx.x == 0) counters[place] = 0;
    }
  }
}
