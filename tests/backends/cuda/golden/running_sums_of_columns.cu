// To be compiled with -fmad=false: products and sums are rounded one by one.

// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_minimum(T x, T y) {
  if (x == y) return x == 0 ? -(-x - y) : x;
  return x < y ? x : y < x ? y : x + y;
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(64, 1) cumulative_extremum_42a25bdddfc7(
    const float *__restrict__ b0,
    long long *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  for (long long i0 = blockIdx.x * 64ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 64ll) {
    float v0 = __int_as_float(0x7f800000);
    long long v1 = 0ll;
    for (long long i1 = 0; i1 < n1; ++i1) {
      const float v2 = b0[i1 * s2 + i0];
      const float v3 = tj_minimum(v0, v2);
      const bool v4 = v2 == v3;
      const bool v5 = v2 != v2;
      const bool v6 = v4 | v5;
      const long long v7 = i1;
      const long long v8 = v6 ? v7 : v1;
      b1[i1 * s2 + i0] = v8;
      const float next0 = v3;
      const long long next1 = v8;
      v0 = next0;
      v1 = next1;
    }
  }
}
