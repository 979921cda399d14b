// To be compiled with -fmad=false: products and sums are rounded one by one.

// One thread.
extern "C" __global__ void __launch_bounds__(32, 1) add_exponential_a4389e95dfa3(
    const float *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    float *__restrict__ b3
) {
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    const float v0 = b0[0];
    const float v1 = b1[0];
    const float v2 = v0 + v1;
    const bool v3 = v0 > 89.0f;
    const float v4 = v3 ? 89.0f : v0;
    const float v5 = fmaf(v4, 0x1.715476p+0f, 12582912.0f);
    const float v6 = v5 - 12582912.0f;
    const float v7 = fmaf(v6, -0x1.62e43p-1f, v4);
    const float v8 = fmaf(v6, 0x1.05c61p-29f, v7);
    const bool v9 = v0 < -104.0f;
    const float v10 = fmaf(v8, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
    const float v11 = fmaf(v8, v10, 0x1.5556f4p-5f);
    const float v12 = fmaf(v8, v11, 0x1.5554b4p-3f);
    const float v13 = fmaf(v8, v12, 0x1.fffffep-2f);
    const float v14 = fmaf(v8, v13, 1.0f);
    const float v15 = fmaf(v8, v14, 1.0f);
    const unsigned int v16 = (unsigned int)__float_as_int(v5);
    const unsigned int v17 = v16 >> 1u;
    const unsigned int v18 = v17 << 23u;
    const unsigned int v19 = v16 << 23u;
    const unsigned int v20 = v19 - v18;
    const unsigned int v21 = v18 + 1065353216u;
    const float v22 = __int_as_float(v21);
    const float v23 = v15 * v22;
    const unsigned int v24 = v20 + 1065353216u;
    const float v25 = __int_as_float(v24);
    const float v26 = v23 * v25;
    const float v27 = v9 ? 0.0f : v26;
    b2[0] = v2;
    b3[0] = v27;
  }
}
