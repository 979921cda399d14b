// To be compiled with -fmad=false: products and sums are rounded one by one.

// One warp for each block, i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_c5eb3498bb28(
    const double *__restrict__ b0,
    double *__restrict__ b1,
    const long long n1,
    const long long s1,
    const long long s2,
    const long long blocks
) {
  const int lane = threadIdx.x % 32;
  const long long points = blocks * 3ll;
  for (long long point = blockIdx.x * 8ll + threadIdx.x / 32; point < points; point += gridDim.x * 8ll) {
    const long long block = point / 3;
    const long long i0 = point % 3;
    double v1 = -0.0;
    {
      long long next = block * 4096 + lane;
      const long long end = n1 < (block + 1) * 4096 ? n1 : (block + 1) * 4096;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const double v0 = b0[i0 * s1 + i1];
          v1 = v1 + v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const double v0 = b0[i0 * s1 + i1];
        v1 = v1 + v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const double other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    if (lane == 0) b1[block + i0 * s2] = v1;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_498e0082154f(
    const double *__restrict__ b0,
    double *__restrict__ b1,
    const long long s0
) {
  for (long long i0 = blockIdx.x * 256ll + threadIdx.x; i0 < 3; i0 += gridDim.x * 256ll) {
    double lanes_v1[8];
    #pragma unroll
    for (int i1 = 0; i1 < 8; ++i1) {
      const double v0 = b0[i0 * s0 + i1];
      lanes_v1[i1] = v0;
    }
    lanes_v1[0] = lanes_v1[0] + lanes_v1[4];
    lanes_v1[1] = lanes_v1[1] + lanes_v1[5];
    lanes_v1[2] = lanes_v1[2] + lanes_v1[6];
    lanes_v1[3] = lanes_v1[3] + lanes_v1[7];
    lanes_v1[0] = lanes_v1[0] + lanes_v1[2];
    lanes_v1[1] = lanes_v1[1] + lanes_v1[3];
    lanes_v1[0] = lanes_v1[0] + lanes_v1[1];
    const double v1 = lanes_v1[0];
    b1[i0] = v1;
  }
}
