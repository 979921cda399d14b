// To be compiled with -fmad=false: products and sums are rounded one by one.

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) add_multiply_ce2873043615(
    const float *__restrict__ b0,
    const float *__restrict__ b1,
    const float *__restrict__ b2,
    const float *__restrict__ b3,
    float *__restrict__ b4,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const float v0 = b0[0];
  const long long points = n0 * n1;
  for (long long point = blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / n1;
    const long long i1 = point % n1;
    const float v1 = b1[i0];
    const float v2 = b2[i0 * s2 + i1];
    const float v3 = b3[i1];
    const float v4 = v2 + v3;
    const float v5 = v4 * v1;
    const float v6 = v5 + v0;
    b4[i0 * s2 + i1] = v6;
  }
}
