// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0, i1, i2.
extern "C" __global__ void __launch_bounds__(256, 1) products_961931ea61eb(
    const int *__restrict__ b0,
    const int *__restrict__ b1,
    int *__restrict__ b2,
    const long long n2,
    const long long s1,
    const long long s2,
    const long long s3
) {
  const long long points = 9ll * 11ll * n2;
  long long done = 0;
  if (n2 % 4 == 0 && (unsigned long long)b0 % 16 == 0 && s1 % 4 == 0 && (unsigned long long)b2 % 16 == 0 && s3 % 4 == 0) {
    done = points / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long point = group * 4;
      const long long i0 = point / n2 / 11;
      const long long i1 = point / n2 % 11;
      const long long i2 = point % n2;
      const tj_vector<int, 4> w0 = *(const tj_vector<int, 4> *)(b0 + i0 * s1 + i2);
      tj_vector<int, 4> w1;
      const long long start = i2;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i2 = start + e;
        const int v0 = w0.e[e];
        const int v1 = b1[i1 + i2 * s2];
        const int v2 = (int)((unsigned int)v0 * (unsigned int)v1);
        w1.e[e] = v2;
      }
      *(tj_vector<int, 4> *)(b2 + i0 * s3 + i1 * s1 + i2) = w1;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / n2 / 11;
    const long long i1 = point / n2 % 11;
    const long long i2 = point % n2;
    const int v0 = b0[i0 * s1 + i2];
    const int v1 = b1[i1 + i2 * s2];
    const int v2 = (int)((unsigned int)v0 * (unsigned int)v1);
    b2[i0 * s3 + i1 * s1 + i2] = v2;
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
