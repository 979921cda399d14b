// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// So many neighbouring elements: at once where they are aligned, else one by one.
template <int N, typename T> __device__ __forceinline__ tj_vector<T, N> tj_load(const T *from, bool aligned) {
  if (aligned) return *(const tj_vector<T, N> *)from;
  tj_vector<T, N> elements;
  #pragma unroll
  for (int e = 0; e < N; ++e) elements.e[e] = from[e];
  return elements;
}

template <int N, typename T>
__device__ __forceinline__ void tj_store(T *to, const tj_vector<T, N> &elements, bool aligned) {
  if (aligned) {
    *(tj_vector<T, N> *)to = elements;
    return;
  }
  #pragma unroll
  for (int e = 0; e < N; ++e) to[e] = elements.e[e];
}

// The shared memory whose size a launch decides.
#ifndef TJ_DYNAMIC
#define TJ_DYNAMIC(name) extern __shared__ __align__(16) unsigned char name[]
#endif

// One block for each i0.
extern "C" __global__ void __launch_bounds__(128, 1) held_128x4x4_reduce_sum_divide_subtract_etc_0f44146416e8(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    float *__restrict__ b2,
    const float *__restrict__ b3,
    float *__restrict__ b4,
    const long long n1,
    const long long s1
) {
  __shared__ float sums_f32_0[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  TJ_DYNAMIC(dynamic);
  const bool aligned = (unsigned long long)b0 % 16 == 0 && (unsigned long long)b3 % 16 == 0 && (unsigned long long)b4 % 16 == 0;
  for (long long i0 = blockIdx.x; i0 < 5; i0 += gridDim.x) {
    float read0[16];
    float v1 = -0.0f;
    float *const row_v1 = (float *)(dynamic + 0);
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 128 + threadIdx.x) * 4;
      if (start < n1) {
        const int i1 = start;
        const tj_vector<float, 4> w0 = tj_load<4>(b0 + i0 * s1 + i1, aligned);
        #pragma unroll
        for (int e = 0; e < 4; ++e) read0[c * 4 + e] = w0.e[e];
        #pragma unroll
        for (int e = 0; e < 4; ++e) {
          const long long i1 = start + e;
          const float v0 = read0[c * 4 + e];
          row_v1[i1] = v0;
        }
      }
    }
    __syncthreads();
    for (int block = warp; block * 4096 < n1; block += 4) {
      const int end = n1 < (block + 1) * 4096 ? n1 : (block + 1) * 4096;
      float part_v1 = -0.0f;
      #pragma unroll 8
      for (int next = block * 4096 + lane; next < end; next += 32) {
        part_v1 = part_v1 + row_v1[next];
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v1, half);
        part_v1 = part_v1 + other;
      }
      if (lane == 0) sums_f32_0[block] = part_v1;
    }
    __syncthreads();
    if (lane * 4096 < n1) v1 = v1 + sums_f32_0[lane];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    const float v2 = v1 / 2048.0f;
    float v6 = -0.0f;
    float *const row_v6 = (float *)(dynamic + 0);
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 128 + threadIdx.x) * 4;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 4; ++e) {
          const long long i1 = start + e;
          const float v3 = read0[c * 4 + e];
          const float v4 = v3 - v2;
          const float v5 = v4 * v4;
          row_v6[i1] = v5;
        }
      }
    }
    __syncthreads();
    for (int block = warp; block * 4096 < n1; block += 4) {
      const int end = n1 < (block + 1) * 4096 ? n1 : (block + 1) * 4096;
      float part_v6 = -0.0f;
      #pragma unroll 8
      for (int next = block * 4096 + lane; next < end; next += 32) {
        part_v6 = part_v6 + row_v6[next];
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v6, half);
        part_v6 = part_v6 + other;
      }
      if (lane == 0) sums_f32_0[block] = part_v6;
    }
    __syncthreads();
    if (lane * 4096 < n1) v6 = v6 + sums_f32_0[lane];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v6, half);
      v6 = v6 + other;
    }
    const float v7 = v6 / 2048.0f;
    const float v8 = v7 + 0x1.4f8b58p-17f;
    const float v9 = sqrtf(v8);
    const float v10 = 1.0f / v9;
    if (threadIdx.x == 0) b1[i0] = v2;
    if (threadIdx.x == 0) b2[i0] = v7;
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 128 + threadIdx.x) * 4;
      if (start < n1) {
        const int i1 = start;
        const tj_vector<float, 4> w0 = tj_load<4>(b3 + i1, aligned);
        tj_vector<float, 4> w1;
        #pragma unroll
        for (int e = 0; e < 4; ++e) {
          const long long i1 = start + e;
          const float v11 = read0[c * 4 + e];
          const float v12 = v11 - v2;
          const float v13 = v12 * v10;
          const float v14 = w0.e[e];
          const float v15 = v13 * v14;
          w1.e[e] = v15;
        }
        tj_store(b4 + i0 * s1 + i1, w1, aligned);
      }
    }
  }
}
