// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// The same for halves, of which a register holds two.
template <int N> __device__ __forceinline__ tj_vector<unsigned int, N> tj_load_pairs(
    const unsigned short *from, bool aligned) {
  if (aligned) return *(const tj_vector<unsigned int, N> *)from;
  tj_vector<unsigned int, N> pairs;
  #pragma unroll
  for (int e = 0; e < N; ++e) pairs.e[e] = from[2 * e] | (unsigned int)from[2 * e + 1] << 16;
  return pairs;
}

__device__ __forceinline__ unsigned short tj_get(unsigned int pair, int place) { return pair >> place % 2 * 16; }

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

// The upper half of a float.
__device__ __forceinline__ float tj_from_bf16(unsigned short bits) {
  return __int_as_float((int)((unsigned int)bits << 16));
}

#ifndef TJ_WITHOUT_PTX
__device__ __forceinline__ unsigned short tj_to_bf16(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
#endif

// One block for each i0.
extern "C" __global__ void __launch_bounds__(128, 1) held_128x2x8_reduce_sum_divide_subtract_etc_71d6f5ada12b(
    const unsigned short *__restrict__ b0,
    unsigned short *__restrict__ b1,
    unsigned short *__restrict__ b2,
    const unsigned short *__restrict__ b3,
    unsigned short *__restrict__ b4,
    const long long n1,
    const long long s1
) {
  __shared__ float sums_f32_0[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  TJ_DYNAMIC(dynamic);
  const bool aligned = (unsigned long long)b0 % 16 == 0 && (unsigned long long)b3 % 16 == 0 && (unsigned long long)b4 % 16 == 0;
  for (long long i0 = blockIdx.x; i0 < 5; i0 += gridDim.x) {
    unsigned int read0[8];
    float v2 = -0.0f;
    float *const row_v2 = (float *)(dynamic + 0);
    #pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int start = (c * 128 + threadIdx.x) * 8;
      if (start < n1) {
        const int i1 = start;
        const tj_vector<unsigned int, 4> w0 = tj_load_pairs<4>(b0 + i0 * s1 + i1, aligned);
        #pragma unroll
        for (int e = 0; e < 4; ++e) read0[c * 4 + e] = w0.e[e];
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = start + e;
          const unsigned short v0 = tj_get(read0[c * 4 + e / 2], e);
          const float v1 = tj_from_bf16(v0);
          row_v2[i1] = v1;
        }
      }
    }
    __syncthreads();
    for (int block = warp; block * 4096 < n1; block += 4) {
      const int end = n1 < (block + 1) * 4096 ? n1 : (block + 1) * 4096;
      float part_v2 = -0.0f;
      #pragma unroll 8
      for (int next = block * 4096 + lane; next < end; next += 32) {
        part_v2 = part_v2 + row_v2[next];
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v2, half);
        part_v2 = part_v2 + other;
      }
      if (lane == 0) sums_f32_0[block] = part_v2;
    }
    __syncthreads();
    if (lane * 4096 < n1) v2 = v2 + sums_f32_0[lane];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v2, half);
      v2 = v2 + other;
    }
    const unsigned short v3 = tj_to_bf16(v2);
    const float v4 = tj_from_bf16(v3);
    const float v5 = v4 / 2048.0f;
    const unsigned short v6 = tj_to_bf16(v5);
    const float v7 = tj_from_bf16(v6);
    float v16 = -0.0f;
    float *const row_v16 = (float *)(dynamic + 0);
    #pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int start = (c * 128 + threadIdx.x) * 8;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = start + e;
          const unsigned short v8 = tj_get(read0[c * 4 + e / 2], e);
          const float v9 = tj_from_bf16(v8);
          const float v10 = v9 - v7;
          const unsigned short v11 = tj_to_bf16(v10);
          const float v12 = tj_from_bf16(v11);
          const float v13 = v12 * v12;
          const unsigned short v14 = tj_to_bf16(v13);
          const float v15 = tj_from_bf16(v14);
          row_v16[i1] = v15;
        }
      }
    }
    __syncthreads();
    for (int block = warp; block * 4096 < n1; block += 4) {
      const int end = n1 < (block + 1) * 4096 ? n1 : (block + 1) * 4096;
      float part_v16 = -0.0f;
      #pragma unroll 8
      for (int next = block * 4096 + lane; next < end; next += 32) {
        part_v16 = part_v16 + row_v16[next];
      }
      #pragma unroll
      for (int half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, part_v16, half);
        part_v16 = part_v16 + other;
      }
      if (lane == 0) sums_f32_0[block] = part_v16;
    }
    __syncthreads();
    if (lane * 4096 < n1) v16 = v16 + sums_f32_0[lane];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v16, half);
      v16 = v16 + other;
    }
    const unsigned short v17 = tj_to_bf16(v16);
    const float v18 = tj_from_bf16(v17);
    const float v19 = v18 / 2048.0f;
    const unsigned short v20 = tj_to_bf16(v19);
    const float v21 = tj_from_bf16(v20);
    const float v22 = v21 + 0x1.5p-17f;
    const unsigned short v23 = tj_to_bf16(v22);
    const float v24 = tj_from_bf16(v23);
    const float v25 = sqrtf(v24);
    const float v26 = 1.0f / v25;
    const unsigned short v27 = tj_to_bf16(v26);
    const float v28 = tj_from_bf16(v27);
    if (threadIdx.x == 0) b1[i0] = v6;
    if (threadIdx.x == 0) b2[i0] = v20;
    #pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int start = (c * 128 + threadIdx.x) * 8;
      if (start < n1) {
        const int i1 = start;
        const tj_vector<unsigned int, 4> w0 = tj_load_pairs<4>(b3 + i1, aligned);
        tj_vector<unsigned short, 8> w1;
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = start + e;
          const unsigned short v29 = tj_get(read0[c * 4 + e / 2], e);
          const float v30 = tj_from_bf16(v29);
          const float v31 = v30 - v7;
          const unsigned short v32 = tj_to_bf16(v31);
          const float v33 = tj_from_bf16(v32);
          const float v34 = v33 * v28;
          const unsigned short v35 = tj_to_bf16(v34);
          const unsigned short v36 = tj_get(w0.e[e / 2], e);
          const float v37 = tj_from_bf16(v35);
          const float v38 = tj_from_bf16(v36);
          const float v39 = v37 * v38;
          const unsigned short v40 = tj_to_bf16(v39);
          w1.e[e] = v40;
        }
        tj_store(b4 + i0 * s1 + i1, w1, aligned);
      }
    }
  }
}
