// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) gather_37aa2b1345d3(
    const unsigned char *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    const long long n0,
    const long long s1,
    const long long s2
) {
  const long long points = n0 * 9ll;
  long long done = 0;
  if (9 % 16 == 0 && (unsigned long long)b2 % 16 == 0 && s2 % 16 == 0) {
    done = points / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long point = group * 16;
      const long long i0 = point / 9;
      const long long i1 = point % 9;
      const unsigned char v0 = b0[i0];
      const long long v1 = (long long)v0;
      const long long v2 = v1 > 0ll ? v1 : 0ll;
      const long long v3 = v2 < 11ll ? v2 : 11ll;
      tj_vector<unsigned char, 16> w0;
      const long long start = i1;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i1 = start + e;
        const bool v4 = b1[i1 * s1 + v3] != 0;
        w0.e[e] = v4;
      }
      *(tj_vector<unsigned char, 16> *)(b2 + i0 * s2 + i1) = w0;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / 9;
    const long long i1 = point % 9;
    const unsigned char v0 = b0[i0];
    const long long v1 = (long long)v0;
    const long long v2 = v1 > 0ll ? v1 : 0ll;
    const long long v3 = v2 < 11ll ? v2 : 11ll;
    const bool v4 = b1[i1 * s1 + v3] != 0;
    b2[i0 * s2 + i1] = v4;
  }
}
