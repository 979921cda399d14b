// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_maximum(T x, T y) {
  if (x == y) return x == 0 ? x + y : x;
  return x > y ? x : y > x ? y : x + y;
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) iota_5348072cb2d0(
    long long *__restrict__ b0,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0) {
    done = n0 / 2 * 2;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 2; group += gridDim.x * 256ll) {
      const long long i0 = group * 2;
      tj_vector<long long, 2> w0;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 2; ++e) {
        const long long i0 = start + e;
        const long long v0 = i0;
        w0.e[e] = v0;
      }
      *(tj_vector<long long, 2> *)(b0 + i0) = w0;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const long long v0 = i0;
    b0[i0] = v0;
  }
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) held_32x4x1_reduce_max_compare_select_etc_d64f443ff17f(
    const float *__restrict__ b0,
    const long long *__restrict__ b1,
    long long *__restrict__ b2,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    float read0[4];
    float v1 = __int_as_float(0xff800000);
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 32 + lane) * 1;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
          const long long i1 = start + e;
          read0[c * 1 + e] = b0[i0 * s2 + i1];
          const float v0 = read0[c * 1 + e];
          v1 = tj_maximum(v1, v0);
        }
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = tj_maximum(v1, other);
    }
    long long v6 = 9223372036854775807ll;
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 32 + lane) * 1;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
          const long long i1 = start + e;
          const float v2 = read0[c * 1 + e];
          const bool v3 = v2 == v1;
          const long long v4 = b1[i1];
          const long long v5 = v3 ? v4 : 40ll;
          v6 = v6 < v5 ? v6 : v5;
        }
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const long long other = __shfl_xor_sync(0xffffffffu, v6, half);
      v6 = v6 < other ? v6 : other;
    }
    if (lane == 0) b2[i0] = v6;
  }
}
