// To be compiled with -fmad=false: products and sums are rounded one by one.

// One thread for four for each i0, i1, i2.
extern "C" __global__ void __launch_bounds__(256, 1) tiles_products_961931ea61eb(
    const int *__restrict__ b0,
    const int *__restrict__ b1,
    int *__restrict__ b2,
    const long long n2,
    const long long s1,
    const long long s2,
    const long long s3
) {
  __shared__ int tile0[32][33];
  const long long tiles_across = (11 + 31) / 32;
  const long long tiles_along = (n2 + 31) / 32;
  const long long tiles = tiles_across * tiles_along;
  const int side = threadIdx.x % 32, row = threadIdx.x / 32;
  for (long long tile = blockIdx.x; tile < 9 * tiles; tile += gridDim.x) {
    const long long first_across = tile / tiles_along % tiles_across * 32;
    const long long first_along = tile % tiles_along * 32;
    const long long i0 = tile / tiles;
    for (int step = row; step < 32; step += 8) {
      const long long i1 = first_across + side, i2 = first_along + step;
      if (i1 < 11 && i2 < n2) {
        tile0[step][side] = b1[i1 + i2 * s2];
      }
    }
    __syncthreads();
    for (int step = row; step < 32; step += 8) {
      const long long i1 = first_across + step, i2 = first_along + side;
      if (i1 < 11 && i2 < n2) {
        const int v0 = b0[i0 * s1 + i2];
        const int v1 = tile0[side][step];
        const int v2 = (int)((unsigned int)v0 * (unsigned int)v1);
        b2[i0 * s3 + i1 * s1 + i2] = v2;
      }
    }
    __syncthreads();
  }
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_09e292b18286(
    const int *__restrict__ b0,
    int *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    int v1 = 0;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const int v0 = b0[i0 * s2 + i1];
          v1 = (int)((unsigned int)v1 + (unsigned int)v0);
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const int v0 = b0[i0 * s2 + i1];
        v1 = (int)((unsigned int)v1 + (unsigned int)v0);
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const int other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = (int)((unsigned int)v1 + (unsigned int)other);
    }
    if (lane == 0) b1[i0] = v1;
  }
}
