// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) gather_multiply_erf_etc_6ae04f12008d(
    const int *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const long long points = n0 * n1;
  long long done = 0;
  if (n1 % 4 == 0 && (unsigned long long)b1 % 16 == 0 && s2 % 4 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = points / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long point = group * 4;
      const long long i0 = point / n1;
      const long long i1 = point % n1;
      const int v0 = b0[i0];
      const long long v1 = (long long)v0;
      const long long v2 = v1 > 0ll ? v1 : 0ll;
      const long long v3 = v2 < 11ll ? v2 : 11ll;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b1 + i1 + v3 * s2);
      tj_vector<float, 4> w1;
      const long long start = i1;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i1 = start + e;
        const float v4 = w0.e[e];
        const float v5 = v4 * 0.5f;
        const float v6 = v4 * 0x1.6a09e6p-1f;
        const float v7 = fabsf(v6);
        const bool v8 = v7 > 0x1.f9999ap+1f;
        const float v9 = v8 ? 0x1.f9999ap+1f : v7;
        const float v10 = fmaf(v9, -0x1.3abc02p-17f, 0x1.f243bcp-14f);
        const float v11 = fmaf(v9, v10, -0x1.4e0d98p-11f);
        const float v12 = fmaf(v9, v11, 0x1.b72ecep-10f);
        const float v13 = fmaf(v9, v12, -0x1.62ea28p-13f);
        const float v14 = fmaf(v9, v13, -0x1.39b83cp-6f);
        const float v15 = fmaf(v9, v14, 0x1.a4f8c8p-4f);
        const float v16 = fmaf(v9, v15, 0x1.45f3p-1f);
        const float v17 = fmaf(v9, v16, 0x1.06eba8p-3f);
        const float v18 = fmaf(v9, v17, v9);
        const float v19 = -v18;
        const float v20 = fmaf(v19, 0x1.715476p+0f, 12582912.0f);
        const float v21 = v20 - 12582912.0f;
        const float v22 = fmaf(v21, -0x1.62e43p-1f, v19);
        const float v23 = fmaf(v21, 0x1.05c61p-29f, v22);
        const float v24 = v23 * v23;
        const float v25 = fmaf(v23, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
        const float v26 = fmaf(v23, v25, 0x1.5556f4p-5f);
        const float v27 = fmaf(v23, v26, 0x1.5554b4p-3f);
        const float v28 = fmaf(v23, v27, 0x1.fffffep-2f);
        const float v29 = fmaf(v24, v28, v23);
        const unsigned int v30 = (unsigned int)__float_as_int(v20);
        const unsigned int v31 = v30 << 23u;
        const unsigned int v32 = v31 + 1065353216u;
        const float v33 = __int_as_float(v32);
        const float v34 = -v29;
        const float v35 = 1.0f - v33;
        const float v36 = fmaf(v33, v34, v35);
        const unsigned int v37 = (unsigned int)__float_as_int(v36);
        const unsigned int v38 = (unsigned int)__float_as_int(v6);
        const unsigned int v39 = v38 & 2147483648u;
        const unsigned int v40 = v37 | v39;
        const float v41 = __int_as_float(v40);
        const float v42 = v41 + 1.0f;
        const float v43 = v5 * v42;
        w1.e[e] = v43;
      }
      *(tj_vector<float, 4> *)(b2 + i0 * s2 + i1) = w1;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / n1;
    const long long i1 = point % n1;
    const int v0 = b0[i0];
    const long long v1 = (long long)v0;
    const long long v2 = v1 > 0ll ? v1 : 0ll;
    const long long v3 = v2 < 11ll ? v2 : 11ll;
    const float v4 = b1[i1 + v3 * s2];
    const float v5 = v4 * 0.5f;
    const float v6 = v4 * 0x1.6a09e6p-1f;
    const float v7 = fabsf(v6);
    const bool v8 = v7 > 0x1.f9999ap+1f;
    const float v9 = v8 ? 0x1.f9999ap+1f : v7;
    const float v10 = fmaf(v9, -0x1.3abc02p-17f, 0x1.f243bcp-14f);
    const float v11 = fmaf(v9, v10, -0x1.4e0d98p-11f);
    const float v12 = fmaf(v9, v11, 0x1.b72ecep-10f);
    const float v13 = fmaf(v9, v12, -0x1.62ea28p-13f);
    const float v14 = fmaf(v9, v13, -0x1.39b83cp-6f);
    const float v15 = fmaf(v9, v14, 0x1.a4f8c8p-4f);
    const float v16 = fmaf(v9, v15, 0x1.45f3p-1f);
    const float v17 = fmaf(v9, v16, 0x1.06eba8p-3f);
    const float v18 = fmaf(v9, v17, v9);
    const float v19 = -v18;
    const float v20 = fmaf(v19, 0x1.715476p+0f, 12582912.0f);
    const float v21 = v20 - 12582912.0f;
    const float v22 = fmaf(v21, -0x1.62e43p-1f, v19);
    const float v23 = fmaf(v21, 0x1.05c61p-29f, v22);
    const float v24 = v23 * v23;
    const float v25 = fmaf(v23, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
    const float v26 = fmaf(v23, v25, 0x1.5556f4p-5f);
    const float v27 = fmaf(v23, v26, 0x1.5554b4p-3f);
    const float v28 = fmaf(v23, v27, 0x1.fffffep-2f);
    const float v29 = fmaf(v24, v28, v23);
    const unsigned int v30 = (unsigned int)__float_as_int(v20);
    const unsigned int v31 = v30 << 23u;
    const unsigned int v32 = v31 + 1065353216u;
    const float v33 = __int_as_float(v32);
    const float v34 = -v29;
    const float v35 = 1.0f - v33;
    const float v36 = fmaf(v33, v34, v35);
    const unsigned int v37 = (unsigned int)__float_as_int(v36);
    const unsigned int v38 = (unsigned int)__float_as_int(v6);
    const unsigned int v39 = v38 & 2147483648u;
    const unsigned int v40 = v37 | v39;
    const float v41 = __int_as_float(v40);
    const float v42 = v41 + 1.0f;
    const float v43 = v5 * v42;
    b2[i0 * s2 + i1] = v43;
  }
}
