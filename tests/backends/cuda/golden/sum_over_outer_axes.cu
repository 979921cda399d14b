// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0, i1, i2.
extern "C" __global__ void __launch_bounds__(256, 1) transpose_a901fea35b43(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long n2,
    const long long s2,
    const long long s3,
    const long long s4
) {
  const long long points = n0 * 6ll * n2;
  long long done = 0;
  if (n2 % 4 == 0 && (unsigned long long)b0 % 16 == 0 && s2 % 4 == 0 && s3 % 4 == 0 && (unsigned long long)b1 % 16 == 0 && s4 % 4 == 0) {
    done = points / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long point = group * 4;
      const long long i0 = point / n2 / 6;
      const long long i1 = point / n2 % 6;
      const long long i2 = point % n2;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0 * s2 + i1 * s3 + i2);
      tj_vector<float, 4> w1;
      const long long start = i2;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i2 = start + e;
        const float v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<float, 4> *)(b1 + i0 * s4 + i1 * s2 + i2) = w1;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / n2 / 6;
    const long long i1 = point / n2 % 6;
    const long long i2 = point % n2;
    const float v0 = b0[i0 * s2 + i1 * s3 + i2];
    b1[i0 * s4 + i1 * s2 + i2] = v0;
  }
}

// One warp for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) reduce_sum_f285dab09c5a(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2
) {
  const int lane = threadIdx.x % 32;
  for (long long i0 = blockIdx.x * 8ll + threadIdx.x / 32; i0 < n0; i0 += gridDim.x * 8ll) {
    float v1 = -0.0f;
    {
      long long next = lane;
      const long long end = n1;
      for (; next + 224 < end; next += 256) {
        #pragma unroll
        for (int e = 0; e < 8; ++e) {
          const long long i1 = next + e * 32;
          const float v0 = b0[i0 * s2 + i1];
          v1 = v1 + v0;
        }
      }
      for (; next < end; next += 32) {
        const long long i1 = next;
        const float v0 = b0[i0 * s2 + i1];
        v1 = v1 + v0;
      }
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, v1, half);
      v1 = v1 + other;
    }
    if (lane == 0) b1[i0] = v1;
  }
}
