// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) concatenate_08f2b96d04cf(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long s1,
    const long long s2
) {
  const long long points = n0 * 7ll;
  long long done = 0;
  if (7 % 4 == 0 && (unsigned long long)b0 % 16 == 0 && s1 % 4 == 0 && (unsigned long long)b1 % 16 == 0 && s2 % 4 == 0) {
    done = points / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long point = group * 4;
      const long long i0 = point / 7;
      const long long i1 = point % 7;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0 * s1 + i1);
      tj_vector<float, 4> w1;
      const long long start = i1;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i1 = start + e;
        const float v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<float, 4> *)(b1 + i0 * s2 + i1) = w1;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / 7;
    const long long i1 = point % 7;
    const float v0 = b0[i0 * s1 + i1];
    b1[i0 * s2 + i1] = v0;
  }
}

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) concatenate_dfc67ef92c53(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long n1,
    const long long s2,
    const long long s3,
    const long long o4
) {
  const long long points = n0 * n1;
  long long done = 0;
  if (n1 % 4 == 0 && (unsigned long long)b0 % 16 == 0 && s2 % 4 == 0 && (unsigned long long)b1 % 16 == 0 && o4 % 4 == 0 && s3 % 4 == 0) {
    done = points / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long point = group * 4;
      const long long i0 = point / n1;
      const long long i1 = point % n1;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0 * s2 + i1);
      tj_vector<float, 4> w1;
      const long long start = i1;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i1 = start + e;
        const float v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<float, 4> *)(b1 + i0 * s3 + i1 + o4) = w1;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / n1;
    const long long i1 = point % n1;
    const float v0 = b0[i0 * s2 + i1];
    b1[i0 * s3 + i1 + o4] = v0;
  }
}

// One thread for each i0, i1.
extern "C" __global__ void __launch_bounds__(256, 1) concatenate_e6717b51ea96(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0,
    const long long s1,
    const long long s2,
    const long long o3
) {
  const long long points = n0 * 7ll;
  long long done = 0;
  if (7 % 4 == 0 && (unsigned long long)b0 % 16 == 0 && s1 % 4 == 0 && (unsigned long long)b1 % 16 == 0 && o3 % 4 == 0 && s2 % 4 == 0) {
    done = points / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long point = group * 4;
      const long long i0 = point / 7;
      const long long i1 = point % 7;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0 * s1 + i1);
      tj_vector<float, 4> w1;
      const long long start = i1;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i1 = start + e;
        const float v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<float, 4> *)(b1 + i0 * s2 + i1 + o3) = w1;
    }
  }
  for (long long point = done + blockIdx.x * 256ll + threadIdx.x; point < points; point += gridDim.x * 256ll) {
    const long long i0 = point / 7;
    const long long i1 = point % 7;
    const float v0 = b0[i0 * s1 + i1];
    b1[i0 * s2 + i1 + o3] = v0;
  }
}
