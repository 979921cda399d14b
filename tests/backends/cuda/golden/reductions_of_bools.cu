// To be compiled with -fmad=false: products and sums are rounded one by one.

// 32 threads of a block for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) narrow_reduce_max_reduce_min_reduce_and_etc_a62d495a3400(
    const unsigned char *__restrict__ b0,
    unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    unsigned char *__restrict__ b3,
    unsigned char *__restrict__ b4,
    const long long n0,
    const long long n1,
    const long long s2
) {
  __shared__ bool table_bool[33][9];
  const int lane = threadIdx.x / 8, column = threadIdx.x % 8;
  for (long long tile = blockIdx.x; tile * 8 < n0; tile += gridDim.x) {
    const bool active = tile * 8 + column < n0;
    const long long i0 = active ? tile * 8 + column : n0 - 1;
    bool v1 = false;
    bool v2 = true;
    bool v3 = true;
    bool v4 = false;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const bool v0 = b0[i1 * s2 + i0] != 0;
          v1 = v1 > v0 ? v1 : v0;
          v2 = v2 < v0 ? v2 : v0;
          v3 = v3 & v0;
          v4 = v4 | v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const bool v0 = b0[i1 * s2 + i0] != 0;
        v1 = v1 > v0 ? v1 : v0;
        v2 = v2 < v0 ? v2 : v0;
        v3 = v3 & v0;
        v4 = v4 | v0;
      }
    }
    table_bool[lane][column] = v1;
    __syncthreads();
    v1 = table_bool[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const bool other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 > other ? v1 : other;
    }
    if (threadIdx.x % 32 == 0) table_bool[32][threadIdx.x / 32] = v1;
    __syncthreads();
    v1 = table_bool[32][column];
    table_bool[lane][column] = v2;
    __syncthreads();
    v2 = table_bool[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const bool other = __shfl_xor_sync(0xffffffffu, v2, half);
      v2 = v2 < other ? v2 : other;
    }
    if (threadIdx.x % 32 == 0) table_bool[32][threadIdx.x / 32] = v2;
    __syncthreads();
    v2 = table_bool[32][column];
    table_bool[lane][column] = v3;
    __syncthreads();
    v3 = table_bool[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const bool other = __shfl_xor_sync(0xffffffffu, v3, half);
      v3 = v3 & other;
    }
    if (threadIdx.x % 32 == 0) table_bool[32][threadIdx.x / 32] = v3;
    __syncthreads();
    v3 = table_bool[32][column];
    table_bool[lane][column] = v4;
    __syncthreads();
    v4 = table_bool[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const bool other = __shfl_xor_sync(0xffffffffu, v4, half);
      v4 = v4 | other;
    }
    if (threadIdx.x % 32 == 0) table_bool[32][threadIdx.x / 32] = v4;
    __syncthreads();
    v4 = table_bool[32][column];
    if (lane == 0 && active) b1[i0] = v1;
    if (lane == 0 && active) b2[i0] = v2;
    if (lane == 0 && active) b3[i0] = v3;
    if (lane == 0 && active) b4[i0] = v4;
  }
}
