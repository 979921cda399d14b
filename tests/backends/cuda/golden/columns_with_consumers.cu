// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

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

// 32 threads of a block for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) narrow_reduce_max_compare_select_etc_5a5bcd48c9d2(
    const int *__restrict__ b0,
    const long long *__restrict__ b1,
    long long *__restrict__ b2,
    const long long n0,
    const long long n1,
    const long long s2
) {
  __shared__ int table_i32[33][9];
  __shared__ long long table_i64[33][9];
  const int lane = threadIdx.x / 8, column = threadIdx.x % 8;
  for (long long tile = blockIdx.x; tile * 8 < n0; tile += gridDim.x) {
    const bool active = tile * 8 + column < n0;
    const long long i0 = active ? tile * 8 + column : n0 - 1;
    int v1 = (-2147483647 - 1);
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const int v0 = b0[i1 * s2 + i0];
          v1 = v1 > v0 ? v1 : v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const int v0 = b0[i1 * s2 + i0];
        v1 = v1 > v0 ? v1 : v0;
      }
    }
    table_i32[lane][column] = v1;
    __syncthreads();
    v1 = table_i32[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const int other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 > other ? v1 : other;
    }
    if (threadIdx.x % 32 == 0) table_i32[32][threadIdx.x / 32] = v1;
    __syncthreads();
    v1 = table_i32[32][column];
    long long v6 = 9223372036854775807ll;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const int v2 = b0[i1 * s2 + i0];
          const bool v3 = v2 == v1;
          const long long v4 = b1[i1];
          const long long v5 = v3 ? v4 : 40ll;
          v6 = v6 < v5 ? v6 : v5;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const int v2 = b0[i1 * s2 + i0];
        const bool v3 = v2 == v1;
        const long long v4 = b1[i1];
        const long long v5 = v3 ? v4 : 40ll;
        v6 = v6 < v5 ? v6 : v5;
      }
    }
    table_i64[lane][column] = v6;
    __syncthreads();
    v6 = table_i64[threadIdx.x % 32][threadIdx.x / 32];
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const long long other = __shfl_xor_sync(0xffffffffu, v6, half);
      v6 = v6 < other ? v6 : other;
    }
    if (threadIdx.x % 32 == 0) table_i64[32][threadIdx.x / 32] = v6;
    __syncthreads();
    v6 = table_i64[32][column];
    if (lane == 0 && active) b2[i0] = v6;
  }
}
