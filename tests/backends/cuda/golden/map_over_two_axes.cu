// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) add_multiply_381a28872fab(
    const float *__restrict__ b0,
    const float *__restrict__ b1,
    const float *__restrict__ b2,
    const float *__restrict__ b3,
    float *__restrict__ b4,
    const long long s0
) {
  const float v0 = b0[0];
  const long long points = 3ll * 5ll;
  long long done = 0;
  if (5 % 4 == 0 && (unsigned long long)b2 % 16 == 0 && s0 % 4 == 0 && (unsigned long long)b3 % 16 == 0 && (unsigned long long)b4 % 16 == 0) {
    done = points / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long point = group * 4;
      const long long i0 = point / 5;
      const long long i1 = point % 5;
      const float v1 = b1[i0];
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b2 + i0 * s0 + i1);
      const tj_vector<float, 4> w1 = *(const tj_vector<float, 4> *)(b3 + i1);
      tj_vector<float, 4> w2;
      const long long start = i1;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i1 = start + e;
        const float v2 = w0.e[e];
        const float v3 = w1.e[e];
        const float v4 = v2 + v3;
        const float v5 = v4 * v1;
        const float v6 = v5 + v0;
        w2.e[e] = v6;
      }
      *(tj_vector<float, 4> *)(b4 + i0 * s0 + i1) = w2;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / 5;
    const long long i1 = point % 5;
    const float v1 = b1[i0];
    const float v2 = b2[i0 * s0 + i1];
    const float v3 = b3[i1];
    const float v4 = v2 + v3;
    const float v5 = v4 * v1;
    const float v6 = v5 + v0;
    b4[i0 * s0 + i1] = v6;
  }
}
