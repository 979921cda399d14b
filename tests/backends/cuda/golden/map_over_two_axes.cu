// To be compiled with -fmad=false: products and sums are rounded one by one.

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) add_be3c2e3946e5(
    const float *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0,
    const long long n1,
    const long long s2,
    const long long s3
) {
  const long long points = n0 * n1;
  for (long long point = blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / n1;
    const long long i1 = point % n1;
    const float v0 = b0[i0 + i1 * s2];
    const float v1 = b1[i0 * s3 + i1];
    const float v2 = v0 + v1;
    b2[i0 * s3 + i1] = v2;
  }
}
