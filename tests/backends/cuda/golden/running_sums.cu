// To be compiled with -fmad=false: products and sums are rounded one by one.

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) cumulative_sum_7f696ad7d10e(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n1,
    const long long s1
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < 5; i0 += gridDim.x * 8ll) {
    float v0 = -0.0f;
    for (long long first = 0; first < n1; first += 32) {
      const bool is_inside = first + lane < n1;
      const long long i1 = is_inside ? first + lane : n1 - 1;
      const float v1 = b0[i0 * s1 + i1];
      const float own_v1 = v1;
      float kept0;
      #pragma unroll 8
      for (int step = 0; step < 32; ++step) {
        if (first + step >= n1) break;
        const float v1 = __shfl_sync(0xffffffffu, own_v1, step);
        const float v2 = v0 + v1;
        if (lane == step) kept0 = v2;
        const float next0 = v2;
        v0 = next0;
      }
      if (is_inside) b1[i0 * s1 + i1] = kept0;
    }
  }
}
