// To be compiled with -fmad=false: products and sums are rounded one by one.

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_max_1593c23edd7d(
    const unsigned long long *__restrict__ b0,
    unsigned long long *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    unsigned long long v1 = 0ull;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const unsigned long long v0 = b0[i0 * s2 + i1];
          v1 = v1 > v0 ? v1 : v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const unsigned long long v0 = b0[i0 * s2 + i1];
        v1 = v1 > v0 ? v1 : v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const unsigned long long other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 > other ? v1 : other;
    }
    if (lane == 0) b1[i0] = v1;
  }
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_min_02e3f26ac480(
    const unsigned long long *__restrict__ b0,
    unsigned long long *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    unsigned long long v1 = 18446744073709551615ull;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const unsigned long long v0 = b0[i0 * s2 + i1];
          v1 = v1 < v0 ? v1 : v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const unsigned long long v0 = b0[i0 * s2 + i1];
        v1 = v1 < v0 ? v1 : v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const unsigned long long other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 < other ? v1 : other;
    }
    if (lane == 0) b1[i0] = v1;
  }
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_1e6adec5f184(
    const unsigned long long *__restrict__ b0,
    unsigned long long *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    unsigned long long v1 = 0ull;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const unsigned long long v0 = b0[i0 * s2 + i1];
          v1 = v1 + v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const unsigned long long v0 = b0[i0 * s2 + i1];
        v1 = v1 + v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const unsigned long long other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    if (lane == 0) b1[i0] = v1;
  }
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_and_566504bf5bf2(
    const unsigned long long *__restrict__ b0,
    unsigned long long *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    unsigned long long v1 = 18446744073709551615ull;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const unsigned long long v0 = b0[i0 * s2 + i1];
          v1 = v1 & v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const unsigned long long v0 = b0[i0 * s2 + i1];
        v1 = v1 & v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const unsigned long long other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 & other;
    }
    if (lane == 0) b1[i0] = v1;
  }
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_or_f2e7c3f1f958(
    const unsigned long long *__restrict__ b0,
    unsigned long long *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    unsigned long long v1 = 0ull;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const unsigned long long v0 = b0[i0 * s2 + i1];
          v1 = v1 | v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const unsigned long long v0 = b0[i0 * s2 + i1];
        v1 = v1 | v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const unsigned long long other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 | other;
    }
    if (lane == 0) b1[i0] = v1;
  }
}
