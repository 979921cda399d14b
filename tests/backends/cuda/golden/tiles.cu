// To be compiled with -fmad=false: products and sums are rounded one by one.

// One thread for four for each i0, i1, i2, i3.
extern "C" __global__ void __launch_bounds__(256, 1) tiles_negate_a1b88af32910(
    const int *__restrict__ b0,
    int *__restrict__ b1,
    const long long n2,
    const long long n3,
    const long long s2,
    const long long s3,
    const long long s4,
    const long long s5,
    const long long s6,
    const long long s7
) {
  __shared__ int tile0[32][33];
  const long long tiles_across = (n2 + 31) / 32;
  const long long tiles_along = (n3 + 31) / 32;
  const long long tiles = tiles_across * tiles_along;
  const int side = threadIdx.x % 32, row = threadIdx.x / 32;
  for (long long tile = blockIdx.x; tile < 5 * 3 * tiles; tile += gridDim.x) {
    const long long first_across = tile / tiles_along % tiles_across * 32;
    const long long first_along = tile % tiles_along * 32;
    const long long i0 = tile / tiles / 3;
    const long long i1 = tile / tiles % 3;
    for (int step = row; step < 32; step += 8) {
      const long long i2 = first_across + side, i3 = first_along + step;
      if (i2 < n2 && i3 < n3) {
        tile0[step][side] = b0[i0 * s2 + i1 * s3 + i2 + i3 * s4];
      }
    }
    __syncthreads();
    for (int step = row; step < 32; step += 8) {
      const long long i2 = first_across + step, i3 = first_along + side;
      if (i2 < n2 && i3 < n3) {
        const int v0 = tile0[side][step];
        const int v1 = (int)(0 - (unsigned int)v0);
        b1[i0 * s5 + i1 * s6 + i2 * s7 + i3] = v1;
      }
    }
    __syncthreads();
  }
}
