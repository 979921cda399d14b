// To be compiled with -fmad=false: products and sums are rounded one by one.

// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_maximum(T x, T y) {
  if (x == y) return x == 0 ? x + y : x;
  return x > y ? x : y > x ? y : x + y;
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) held_32x4x1_reduce_max_subtract_exponential_etc_8cb20e53cf17(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    float read0[4];
    float kept0[4];
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
    float v29 = -0.0f;
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 32 + lane) * 1;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
          const long long i1 = start + e;
          const float v2 = read0[c * 1 + e];
          const float v3 = v2 - v1;
          const bool v4 = v3 > 89.0f;
          const float v5 = v4 ? 89.0f : v3;
          const float v6 = fmaf(v5, 0x1.715476p+0f, 12582912.0f);
          const float v7 = v6 - 12582912.0f;
          const float v8 = fmaf(v7, -0x1.62e43p-1f, v5);
          const float v9 = fmaf(v7, 0x1.05c61p-29f, v8);
          const bool v10 = v3 < -104.0f;
          const float v11 = fmaf(v9, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
          const float v12 = fmaf(v9, v11, 0x1.5556f4p-5f);
          const float v13 = fmaf(v9, v12, 0x1.5554b4p-3f);
          const float v14 = fmaf(v9, v13, 0x1.fffffep-2f);
          const float v15 = fmaf(v9, v14, 1.0f);
          const float v16 = fmaf(v9, v15, 1.0f);
          const unsigned int v17 = (unsigned int)__float_as_int(v6);
          const unsigned int v18 = v17 >> 1u;
          const unsigned int v19 = v18 << 23u;
          const unsigned int v20 = v17 << 23u;
          const unsigned int v21 = v20 - v19;
          const unsigned int v22 = v19 + 1065353216u;
          const float v23 = __int_as_float(v22);
          const float v24 = v16 * v23;
          const unsigned int v25 = v21 + 1065353216u;
          const float v26 = __int_as_float(v25);
          const float v27 = v24 * v26;
          const float v28 = v10 ? 0.0f : v27;
          kept0[c * 1 + e] = v28;
          v29 = v29 + v28;
        }
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v29, half);
      v29 = v29 + other;
    }
    #pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int start = (c * 32 + lane) * 1;
      if (start < n1) {
        const int i1 = start;
        #pragma unroll
        for (int e = 0; e < 1; ++e) {
          const long long i1 = start + e;
          const float v56 = kept0[c * 1 + e];
          const float v57 = v56 / v29;
          b1[i0 * s2 + i1] = v57;
        }
      }
    }
  }
}
