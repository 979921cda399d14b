// To be compiled with -fmad=false: products and sums are rounded one by one.

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_divide_subtract_etc_37c4f1dbfcc8(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    float *__restrict__ b2,
    const float *__restrict__ b3,
    float *__restrict__ b4,
    const long long n0,
    const long long s1
) {
  for (long long i0 = blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    float lanes_v1[8];
    #pragma unroll
    for (int i1 = 0; i1 < 8; ++i1) {
      const float v0 = b0[i0 * s1 + i1];
      lanes_v1[i1] = v0;
    }
    lanes_v1[0] = lanes_v1[0] + lanes_v1[4];
    lanes_v1[1] = lanes_v1[1] + lanes_v1[5];
    lanes_v1[2] = lanes_v1[2] + lanes_v1[6];
    lanes_v1[3] = lanes_v1[3] + lanes_v1[7];
    lanes_v1[0] = lanes_v1[0] + lanes_v1[2];
    lanes_v1[1] = lanes_v1[1] + lanes_v1[3];
    lanes_v1[0] = lanes_v1[0] + lanes_v1[1];
    const float v1 = lanes_v1[0];
    const float v2 = v1 / 8.0f;
    float lanes_v6[8];
    #pragma unroll
    for (int i1 = 0; i1 < 8; ++i1) {
      const float v3 = b0[i0 * s1 + i1];
      const float v4 = v3 - v2;
      const float v5 = v4 * v4;
      lanes_v6[i1] = v5;
    }
    lanes_v6[0] = lanes_v6[0] + lanes_v6[4];
    lanes_v6[1] = lanes_v6[1] + lanes_v6[5];
    lanes_v6[2] = lanes_v6[2] + lanes_v6[6];
    lanes_v6[3] = lanes_v6[3] + lanes_v6[7];
    lanes_v6[0] = lanes_v6[0] + lanes_v6[2];
    lanes_v6[1] = lanes_v6[1] + lanes_v6[3];
    lanes_v6[0] = lanes_v6[0] + lanes_v6[1];
    const float v6 = lanes_v6[0];
    const float v7 = v6 / 8.0f;
    const float v8 = v7 + 0x1.4f8b58p-17f;
    const float v9 = sqrtf(v8);
    const float v10 = 1.0f / v9;
    b1[i0] = v2;
    b2[i0] = v7;
    for (long long i1 = 0; i1 < 8; ++i1) {
      const float v11 = b0[i0 * s1 + i1];
      const float v12 = v11 - v2;
      const float v13 = v12 * v10;
      const float v14 = b3[i1];
      const float v15 = v13 * v14;
      b4[i0 * s1 + i1] = v15;
    }
  }
}
