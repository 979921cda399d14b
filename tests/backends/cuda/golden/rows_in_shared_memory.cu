// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// A row from memory to shared memory, by all threads of a block.
template <typename T, int N> __device__ __forceinline__ void tj_fetch(T *row, const T *from, long long extent) {
  long long done = 0;
  if ((unsigned long long)from % (N * sizeof(T)) == 0) {
    done = extent / N * N;
    for (long long at = threadIdx.x * N; at < done; at += blockDim.x * N)
      *(tj_vector<T, N> *)(row + at) = *(const tj_vector<T, N> *)(from + at);
  }
  for (long long at = done + threadIdx.x; at < extent; at += blockDim.x) row[at] = from[at];
}

// The shared memory whose size a launch decides.
#ifndef TJ_DYNAMIC
#define TJ_DYNAMIC(name) extern __shared__ __align__(16) unsigned char name[]
#endif

// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_maximum(T x, T y) {
  if (x == y) return x == 0 ? x + y : x;
  return x > y ? x : y > x ? y : x + y;
}

// One block for each i0.
extern "C" __global__ void __launch_bounds__(512, 1) shared_reduce_max_subtract_exponential_etc_edb1421b00b9(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n1,
    const long long s1
) {
  __shared__ float row_f32_0[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  TJ_DYNAMIC(dynamic);
  for (long long i0 = blockIdx.x; i0 < 3; i0 += gridDim.x) {
    __syncthreads();  // the last row has been read
    float *const row0 = (float *)(dynamic + 0);
    tj_fetch<float, 4>(row0, b0 + i0 * s1, n1);
    __syncthreads();
    float v1 = __int_as_float(0xff800000);
    {
      long long next = threadIdx.x;
      const long long end = n1;
      for (; next + 3584 < end; next += 4096) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 512;
          const float v0 = row0[i1];
          v1 = tj_maximum(v1, v0);
        }
      }
      for (; next < end; next += 512) {
        const long long i1 = next;
        const float v0 = row0[i1];
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
              const float v2 = row0[i1];
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
              part_v29 = part_v29 + v28;
            }
          }
          for (; next < end; next += 32) {
            const long long i1 = next;
            const float v2 = row0[i1];
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
      const float v30 = row0[i1];
      const float v31 = v30 - v1;
      const bool v32 = v31 > 89.0f;
      const float v33 = v32 ? 89.0f : v31;
      const float v34 = fmaf(v33, 0x1.715476p+0f, 12582912.0f);
      const float v35 = v34 - 12582912.0f;
      const float v36 = fmaf(v35, -0x1.62e43p-1f, v33);
      const float v37 = fmaf(v35, 0x1.05c61p-29f, v36);
      const bool v38 = v31 < -104.0f;
      const float v39 = fmaf(v37, 0x1.6b99c4p-10f, 0x1.12253ep-7f);
      const float v40 = fmaf(v37, v39, 0x1.5556f4p-5f);
      const float v41 = fmaf(v37, v40, 0x1.5554b4p-3f);
      const float v42 = fmaf(v37, v41, 0x1.fffffep-2f);
      const float v43 = fmaf(v37, v42, 1.0f);
      const float v44 = fmaf(v37, v43, 1.0f);
      const unsigned int v45 = (unsigned int)__float_as_int(v34);
      const unsigned int v46 = v45 >> 1u;
      const unsigned int v47 = v46 << 23u;
      const unsigned int v48 = v45 << 23u;
      const unsigned int v49 = v48 - v47;
      const unsigned int v50 = v47 + 1065353216u;
      const float v51 = __int_as_float(v50);
      const float v52 = v44 * v51;
      const unsigned int v53 = v49 + 1065353216u;
      const float v54 = __int_as_float(v53);
      const float v55 = v52 * v54;
      const float v56 = v38 ? 0.0f : v55;
      const float v57 = v56 / v29;
      b1[i0 * s1 + i1] = v57;
    }
  }
}
