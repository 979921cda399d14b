// To be compiled with -fmad=false: products and sums are rounded one by one.

// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_maximum(T x, T y) {
  if (x == y) return x == 0 ? x + y : x;
  return x > y ? x : y > x ? y : x + y;
}

// Many blocks, in two stages: 32 threads of a block for each block of the order for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) narrow_total_reduce_sum_reduce_max_7090a9565f87(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n1,
    const long long s1,
    unsigned int *__restrict__ counters,
    unsigned char *partials
) {
  __shared__ float table_f32[33][9];
  __shared__ bool is_last;
  const int lane = threadIdx.x / 8, column = threadIdx.x % 8;
  const long long blocks = (n1 + 4095) / 4096, all = 7 * blocks;
  const long long tiles = (7 + 7) / 8;
  for (long long item = blockIdx.x; item < tiles * blocks; item += gridDim.x) {
    const long long tile = item % tiles, block = item / tiles;
    const bool active = tile * 8 + column < 7;
    const long long i0 = active ? tile * 8 + column : 7 - 1;
    float part_v1 = -0.0f;
    float part_v2 = __int_as_float(0xff800000);
    {
      long long next = block * 4096 + lane;
      const long long end = n1 < (block + 1) * 4096 ? n1 : (block + 1) * 4096;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const float v0 = b0[i1 * s1 + i0];
          part_v1 = part_v1 + v0;
          part_v2 = tj_maximum(part_v2, v0);
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const float v0 = b0[i1 * s1 + i0];
        part_v1 = part_v1 + v0;
        part_v2 = tj_maximum(part_v2, v0);
      }
    }
    table_f32[lane][column] = part_v1;
    __syncthreads();
    part_v1 = table_f32[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, part_v1, half);
      part_v1 = part_v1 + other;
    }
    if (threadIdx.x % 32 == 0) table_f32[32][threadIdx.x / 32] = part_v1;
    __syncthreads();
    part_v1 = table_f32[32][column];
    table_f32[lane][column] = part_v2;
    __syncthreads();
    part_v2 = table_f32[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, part_v2, half);
      part_v2 = tj_maximum(part_v2, other);
    }
    if (threadIdx.x % 32 == 0) table_f32[32][threadIdx.x / 32] = part_v2;
    __syncthreads();
    part_v2 = table_f32[32][column];
    if (lane == 0 && active) ((float *)(partials + 0 * all * 8))[block * 7 + i0] = part_v1;
    if (lane == 0 && active) ((float *)(partials + 1 * all * 8))[block * 7 + i0] = part_v2;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(&counters[tile], 1u) == blocks - 1;
    __syncthreads();
    if (is_last) {
      __threadfence();
      float v1 = -0.0f;
      float v2 = __int_as_float(0xff800000);
      for (long long first = 0; first < blocks; first += 4096) {
        float part_v1 = -0.0f;
        float part_v2 = __int_as_float(0xff800000);
        {
          long long next = first + lane;
          const long long end = blocks < first + 4096 ? blocks : first + 4096;
          for (; next + 224 < end; next += 256) {
            #pragma unroll
            for (int e = 0; e < 8; ++e) {
              const long long part = next + e * 32;
              const float vp0 = __ldcg(((float *)(partials + 0 * all * 8)) + part * 7 + i0);
              const float vp1 = __ldcg(((float *)(partials + 1 * all * 8)) + part * 7 + i0);
              part_v1 = part_v1 + vp0;
              part_v2 = tj_maximum(part_v2, vp1);
            }
          }
          for (; next < end; next += 32) {
            const long long part = next;
            const float vp0 = __ldcg(((float *)(partials + 0 * all * 8)) + part * 7 + i0);
            const float vp1 = __ldcg(((float *)(partials + 1 * all * 8)) + part * 7 + i0);
            part_v1 = part_v1 + vp0;
            part_v2 = tj_maximum(part_v2, vp1);
          }
        }
        table_f32[lane][column] = part_v1;
        __syncthreads();
        part_v1 = table_f32[threadIdx.x % 32][threadIdx.x / 32];
        #pragma unroll
        for (int half = 16; half > 0; half /= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, part_v1, half);
          part_v1 = part_v1 + other;
        }
        if (threadIdx.x % 32 == 0) table_f32[32][threadIdx.x / 32] = part_v1;
        __syncthreads();
        part_v1 = table_f32[32][column];
        table_f32[lane][column] = part_v2;
        __syncthreads();
        part_v2 = table_f32[threadIdx.x % 32][threadIdx.x / 32];
        #pragma unroll
        for (int half = 16; half > 0; half /= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, part_v2, half);
          part_v2 = tj_maximum(part_v2, other);
        }
        if (threadIdx.x % 32 == 0) table_f32[32][threadIdx.x / 32] = part_v2;
        __syncthreads();
        part_v2 = table_f32[32][column];
        if (first / 4096 % 32 == lane) {
          v1 = v1 + part_v1;
          v2 = tj_maximum(v2, part_v2);
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
      table_f32[lane][column] = v2;
      __syncthreads();
      v2 = table_f32[threadIdx.x % 32][threadIdx.x / 32];
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, v2, half);
        v2 = tj_maximum(v2, other);
      }
      if (threadIdx.x % 32 == 0) table_f32[32][threadIdx.x / 32] = v2;
      __syncthreads();
      v2 = table_f32[32][column];
      if (lane == 0 && active) b1[i0] = v1;
      if (lane == 0 && active) b2[i0] = v2;
      if (threadIdx.x == 0) counters[tile] = 0;
    }
  }
}
