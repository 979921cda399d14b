// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

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

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) convert_multiply_e947f652e69e(
    const float *__restrict__ b0,
    const unsigned short *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 8 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0);
      const tj_vector<unsigned short, 4> w1 = *(const tj_vector<unsigned short, 4> *)(b1 + i0);
      tj_vector<float, 4> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const float v0 = w0.e[e];
        const unsigned short v1 = tj_to_bf16(v0);
        const unsigned short v2 = w1.e[e];
        const float v3 = tj_from_bf16(v2);
        const float v4 = tj_from_bf16(v1);
        const float v5 = v3 * v4;
        const unsigned short v6 = tj_to_bf16(v5);
        const float v7 = tj_from_bf16(v6);
        w2.e[e] = v7;
      }
      *(tj_vector<float, 4> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const float v0 = b0[i0];
    const unsigned short v1 = tj_to_bf16(v0);
    const unsigned short v2 = b1[i0];
    const float v3 = tj_from_bf16(v2);
    const float v4 = tj_from_bf16(v1);
    const float v5 = v3 * v4;
    const unsigned short v6 = tj_to_bf16(v5);
    const float v7 = tj_from_bf16(v6);
    b2[i0] = v7;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) convert_multiply_subtract_e8a6e3226ab1(
    const float *__restrict__ b0,
    const unsigned short *__restrict__ b1,
    const float *__restrict__ b2,
    float *__restrict__ b3,
    const long long n0
) {
  const float v0 = b0[0];
  long long done = 0;
  if ((unsigned long long)b1 % 8 == 0 && (unsigned long long)b2 % 16 == 0 && (unsigned long long)b3 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<unsigned short, 4> w0 = *(const tj_vector<unsigned short, 4> *)(b1 + i0);
      const tj_vector<float, 4> w1 = *(const tj_vector<float, 4> *)(b2 + i0);
      tj_vector<float, 4> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const unsigned short v1 = w0.e[e];
        const float v2 = tj_from_bf16(v1);
        const float v3 = v2 * v0;
        const float v4 = w1.e[e];
        const float v5 = v4 - v3;
        w2.e[e] = v5;
      }
      *(tj_vector<float, 4> *)(b3 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const unsigned short v1 = b1[i0];
    const float v2 = tj_from_bf16(v1);
    const float v3 = v2 * v0;
    const float v4 = b2[i0];
    const float v5 = v4 - v3;
    b3[i0] = v5;
  }
}
