// To be compiled with -fmad=false: products and sums are rounded one by one.

// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_maximum(T x, T y) {
  if (x == y) return x == 0 ? x + y : x;
  return x > y ? x : y > x ? y : x + y;
}

// One block for each i0.
extern "C" __global__ void __launch_bounds__(512, 1) rows_reduce_max_subtract_exponential_etc_bb3e755c4332(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n1,
    const long long s1
) {
  __shared__ float row_f32_0[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (long long i0 = blockIdx.x; i0 < 8; i0 += gridDim.x) {
    float v1 = __int_as_float(0xff800000);
    {
      long long next = threadIdx.x;
      const long long end = n1;
      for (; next + 3584 < end; next += 4096) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 512;
          const float v0 = b0[i0 * s1 + i1];
          v1 = tj_maximum(v1, v0);
        }
      }
      for (; next < end; next += 512) {
        const long long i1 = next;
        const float v0 = b0[i0 * s1 + i1];
        v1 = tj_maximum(v1, v0);
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = tj_maximum(v1, other);
    }
    if (lane == 0) row_f32_0[warp] = v1;
    __syncthreads();
    v1 = lane < 16 ? row_f32_0[lane] : __int_as_float(0xff800000);
    __syncthreads();
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = tj_maximum(v1, other);
    }
    float v29 = -0.0f;
    for (long long round = 0; round < n1; round += 131072) {
      for (int block = warp; block < 32; block += 16) {
        const long long first = round + block * 4096ll;
        if (first >= n1) break;
        float part_v29 = -0.0f;
        {
          long long next = first + lane;
          const long long end = n1 < first + 4096 ? n1 : first + 4096;
          for (; next + 96 < end; next += 128) {
            #pragma unroll
            for (int e = 0; e < 4; ++e) {
              const long long i1 = next + e * 32;
              const float v2 = b0[i0 * s1 + i1];
              const float v3 = v2 - v1;
              const bool v4 = v3 > 89.0f;
              const float v5 = v4 ? 89.0f : v3;
              const bool v6 = v5 < -104.0f;
              const float v7 = v6 ? -104.0f : v5;
              const float v8 = fmaf(v7, 0x1.715476p+0f, 12582912.0f);
              const float v9 = v8 - 12582912.0f;
              const float v10 = fmaf(v9, -0x1.62e43p-1f, v7);
              const float v11 = fmaf(v9, 0x1.05c61p-29f, v10);
              const float v12 = fmaf(v11, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
              const float v13 = fmaf(v11, v12, 0x1.5556f4p-5f);
              const float v14 = fmaf(v11, v13, 0x1.5554b4p-3f);
              const float v15 = fmaf(v11, v14, 0x1.fffffep-2f);
              const float v16 = fmaf(v11, v15, 1.0f);
              const float v17 = fmaf(v11, v16, 1.0f);
              const unsigned int v18 = (unsigned int)__float_as_int(v8);
              const unsigned int v19 = v18 >> 1u;
              const unsigned int v20 = v19 << 23u;
              const unsigned int v21 = v18 << 23u;
              const unsigned int v22 = v21 - v20;
              const unsigned int v23 = v20 + 1065353216u;
              const float v24 = __int_as_float(v23);
              const float v25 = v17 * v24;
              const unsigned int v26 = v22 + 1065353216u;
              const float v27 = __int_as_float(v26);
              const float v28 = v25 * v27;
              part_v29 = part_v29 + v28;
            }
          }
          for (; next < end; next += 32) {
            const long long i1 = next;
            const float v2 = b0[i0 * s1 + i1];
            const float v3 = v2 - v1;
            const bool v4 = v3 > 89.0f;
            const float v5 = v4 ? 89.0f : v3;
            const bool v6 = v5 < -104.0f;
            const float v7 = v6 ? -104.0f : v5;
            const float v8 = fmaf(v7, 0x1.715476p+0f, 12582912.0f);
            const float v9 = v8 - 12582912.0f;
            const float v10 = fmaf(v9, -0x1.62e43p-1f, v7);
            const float v11 = fmaf(v9, 0x1.05c61p-29f, v10);
            const float v12 = fmaf(v11, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
            const float v13 = fmaf(v11, v12, 0x1.5556f4p-5f);
            const float v14 = fmaf(v11, v13, 0x1.5554b4p-3f);
            const float v15 = fmaf(v11, v14, 0x1.fffffep-2f);
            const float v16 = fmaf(v11, v15, 1.0f);
            const float v17 = fmaf(v11, v16, 1.0f);
            const unsigned int v18 = (unsigned int)__float_as_int(v8);
            const unsigned int v19 = v18 >> 1u;
            const unsigned int v20 = v19 << 23u;
            const unsigned int v21 = v18 << 23u;
            const unsigned int v22 = v21 - v20;
            const unsigned int v23 = v20 + 1065353216u;
            const float v24 = __int_as_float(v23);
            const float v25 = v17 * v24;
            const unsigned int v26 = v22 + 1065353216u;
            const float v27 = __int_as_float(v26);
            const float v28 = v25 * v27;
            part_v29 = part_v29 + v28;
          }
        }
        #pragma unroll
        for (int half = 16; half > 0; half /= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, part_v29, half);
          part_v29 = part_v29 + other;
        }
        if (lane == 0) row_f32_0[block] = part_v29;
      }
      __syncthreads();
      if (round + lane * 4096ll < n1) {
        v29 = v29 + row_f32_0[lane];
      }
      __syncthreads();
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v29, half);
      v29 = v29 + other;
    }
    for (long long i1 = threadIdx.x; i1 < n1; i1 += 512) {
      const float v30 = b0[i0 * s1 + i1];
      const float v31 = v30 - v1;
      const bool v32 = v31 > 89.0f;
      const float v33 = v32 ? 89.0f : v31;
      const bool v34 = v33 < -104.0f;
      const float v35 = v34 ? -104.0f : v33;
      const float v36 = fmaf(v35, 0x1.715476p+0f, 12582912.0f);
      const float v37 = v36 - 12582912.0f;
      const float v38 = fmaf(v37, -0x1.62e43p-1f, v35);
      const float v39 = fmaf(v37, 0x1.05c61p-29f, v38);
      const float v40 = fmaf(v39, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
      const float v41 = fmaf(v39, v40, 0x1.5556f4p-5f);
      const float v42 = fmaf(v39, v41, 0x1.5554b4p-3f);
      const float v43 = fmaf(v39, v42, 0x1.fffffep-2f);
      const float v44 = fmaf(v39, v43, 1.0f);
      const float v45 = fmaf(v39, v44, 1.0f);
      const unsigned int v46 = (unsigned int)__float_as_int(v36);
      const unsigned int v47 = v46 >> 1u;
      const unsigned int v48 = v47 << 23u;
      const unsigned int v49 = v46 << 23u;
      const unsigned int v50 = v49 - v48;
      const unsigned int v51 = v48 + 1065353216u;
      const float v52 = __int_as_float(v51);
      const float v53 = v45 * v52;
      const unsigned int v54 = v50 + 1065353216u;
      const float v55 = __int_as_float(v54);
      const float v56 = v53 * v55;
      const float v57 = v56 / v29;
      b1[i0 * s1 + i1] = v57;
    }
  }
}
