// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) exponential_c11f45835135(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0);
      tj_vector<float, 4> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const float v0 = w0.e[e];
        const bool v1 = v0 > 89.0f;
        const float v2 = v1 ? 89.0f : v0;
        const float v3 = fmaf(v2, 0x1.715476p+0f, 12582912.0f);
        const float v4 = v3 - 12582912.0f;
        const float v5 = fmaf(v4, -0x1.62e43p-1f, v2);
        const float v6 = fmaf(v4, 0x1.05c61p-29f, v5);
        const bool v7 = v0 < -104.0f;
        const float v8 = fmaf(v6, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
        const float v9 = fmaf(v6, v8, 0x1.5556f4p-5f);
        const float v10 = fmaf(v6, v9, 0x1.5554b4p-3f);
        const float v11 = fmaf(v6, v10, 0x1.fffffep-2f);
        const float v12 = fmaf(v6, v11, 1.0f);
        const float v13 = fmaf(v6, v12, 1.0f);
        const unsigned int v14 = (unsigned int)__float_as_int(v3);
        const unsigned int v15 = v14 >> 1u;
        const unsigned int v16 = v15 << 23u;
        const unsigned int v17 = v14 << 23u;
        const unsigned int v18 = v17 - v16;
        const unsigned int v19 = v16 + 1065353216u;
        const float v20 = __int_as_float(v19);
        const float v21 = v13 * v20;
        const unsigned int v22 = v18 + 1065353216u;
        const float v23 = __int_as_float(v22);
        const float v24 = v21 * v23;
        const float v25 = v7 ? 0.0f : v24;
        w1.e[e] = v25;
      }
      *(tj_vector<float, 4> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const float v0 = b0[i0];
    const bool v1 = v0 > 89.0f;
    const float v2 = v1 ? 89.0f : v0;
    const float v3 = fmaf(v2, 0x1.715476p+0f, 12582912.0f);
    const float v4 = v3 - 12582912.0f;
    const float v5 = fmaf(v4, -0x1.62e43p-1f, v2);
    const float v6 = fmaf(v4, 0x1.05c61p-29f, v5);
    const bool v7 = v0 < -104.0f;
    const float v8 = fmaf(v6, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
    const float v9 = fmaf(v6, v8, 0x1.5556f4p-5f);
    const float v10 = fmaf(v6, v9, 0x1.5554b4p-3f);
    const float v11 = fmaf(v6, v10, 0x1.fffffep-2f);
    const float v12 = fmaf(v6, v11, 1.0f);
    const float v13 = fmaf(v6, v12, 1.0f);
    const unsigned int v14 = (unsigned int)__float_as_int(v3);
    const unsigned int v15 = v14 >> 1u;
    const unsigned int v16 = v15 << 23u;
    const unsigned int v17 = v14 << 23u;
    const unsigned int v18 = v17 - v16;
    const unsigned int v19 = v16 + 1065353216u;
    const float v20 = __int_as_float(v19);
    const float v21 = v13 * v20;
    const unsigned int v22 = v18 + 1065353216u;
    const float v23 = __int_as_float(v22);
    const float v24 = v21 * v23;
    const float v25 = v7 ? 0.0f : v24;
    b1[i0] = v25;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) update_slice_a48bb371956c(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0);
      tj_vector<float, 4> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const float v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<float, 4> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const float v0 = b0[i0];
    b1[i0] = v0;
  }
}

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) update_slice_104e9c20f57b(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long s0,
    const long long s1,
    const long long o2
) {
  const long long points = 5ll * 8ll;
  for (long long point = blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / 8;
    const long long i1 = point % 8;
    const float v0 = b0[i0 * s0 + i1];
    b1[i0 * s1 + i1 * 2 + o2] = v0;
  }
}
