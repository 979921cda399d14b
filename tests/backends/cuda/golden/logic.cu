// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) and_88fef7d77d65(
    const unsigned char *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<unsigned char, 16> w0 = *(const tj_vector<unsigned char, 16> *)(b0 + i0);
      const tj_vector<unsigned char, 16> w1 = *(const tj_vector<unsigned char, 16> *)(b1 + i0);
      tj_vector<unsigned char, 16> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const bool v0 = w0.e[e] != 0;
        const bool v1 = w1.e[e] != 0;
        const bool v2 = v0 & v1;
        w2.e[e] = v2;
      }
      *(tj_vector<unsigned char, 16> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const bool v0 = b0[i0] != 0;
    const bool v1 = b1[i0] != 0;
    const bool v2 = v0 & v1;
    b2[i0] = v2;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) or_20e2d5ba742a(
    const unsigned char *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<unsigned char, 16> w0 = *(const tj_vector<unsigned char, 16> *)(b0 + i0);
      const tj_vector<unsigned char, 16> w1 = *(const tj_vector<unsigned char, 16> *)(b1 + i0);
      tj_vector<unsigned char, 16> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const bool v0 = w0.e[e] != 0;
        const bool v1 = w1.e[e] != 0;
        const bool v2 = v0 | v1;
        w2.e[e] = v2;
      }
      *(tj_vector<unsigned char, 16> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const bool v0 = b0[i0] != 0;
    const bool v1 = b1[i0] != 0;
    const bool v2 = v0 | v1;
    b2[i0] = v2;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) xor_07d1781edb4e(
    const unsigned char *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<unsigned char, 16> w0 = *(const tj_vector<unsigned char, 16> *)(b0 + i0);
      const tj_vector<unsigned char, 16> w1 = *(const tj_vector<unsigned char, 16> *)(b1 + i0);
      tj_vector<unsigned char, 16> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const bool v0 = w0.e[e] != 0;
        const bool v1 = w1.e[e] != 0;
        const bool v2 = v0 ^ v1;
        w2.e[e] = v2;
      }
      *(tj_vector<unsigned char, 16> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const bool v0 = b0[i0] != 0;
    const bool v1 = b1[i0] != 0;
    const bool v2 = v0 ^ v1;
    b2[i0] = v2;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) maximum_91b697b44077(
    const unsigned char *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<unsigned char, 16> w0 = *(const tj_vector<unsigned char, 16> *)(b0 + i0);
      const tj_vector<unsigned char, 16> w1 = *(const tj_vector<unsigned char, 16> *)(b1 + i0);
      tj_vector<unsigned char, 16> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const bool v0 = w0.e[e] != 0;
        const bool v1 = w1.e[e] != 0;
        const bool v2 = v0 > v1 ? v0 : v1;
        w2.e[e] = v2;
      }
      *(tj_vector<unsigned char, 16> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const bool v0 = b0[i0] != 0;
    const bool v1 = b1[i0] != 0;
    const bool v2 = v0 > v1 ? v0 : v1;
    b2[i0] = v2;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) minimum_31194e0b17cb(
    const unsigned char *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<unsigned char, 16> w0 = *(const tj_vector<unsigned char, 16> *)(b0 + i0);
      const tj_vector<unsigned char, 16> w1 = *(const tj_vector<unsigned char, 16> *)(b1 + i0);
      tj_vector<unsigned char, 16> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const bool v0 = w0.e[e] != 0;
        const bool v1 = w1.e[e] != 0;
        const bool v2 = v0 < v1 ? v0 : v1;
        w2.e[e] = v2;
      }
      *(tj_vector<unsigned char, 16> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const bool v0 = b0[i0] != 0;
    const bool v1 = b1[i0] != 0;
    const bool v2 = v0 < v1 ? v0 : v1;
    b2[i0] = v2;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) not_c990dea24254(
    const unsigned char *__restrict__ b0,
    unsigned char *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<unsigned char, 16> w0 = *(const tj_vector<unsigned char, 16> *)(b0 + i0);
      tj_vector<unsigned char, 16> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const bool v0 = w0.e[e] != 0;
        const bool v1 = !v0;
        w1.e[e] = v1;
      }
      *(tj_vector<unsigned char, 16> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const bool v0 = b0[i0] != 0;
    const bool v1 = !v0;
    b1[i0] = v1;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) negate_select_729d48187c12(
    const float *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 4 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0);
      const tj_vector<unsigned char, 4> w1 = *(const tj_vector<unsigned char, 4> *)(b1 + i0);
      tj_vector<float, 4> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const float v0 = w0.e[e];
        const float v1 = -v0;
        const bool v2 = w1.e[e] != 0;
        const float v3 = v2 ? v0 : v1;
        w2.e[e] = v3;
      }
      *(tj_vector<float, 4> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const float v0 = b0[i0];
    const float v1 = -v0;
    const bool v2 = b1[i0] != 0;
    const float v3 = v2 ? v0 : v1;
    b2[i0] = v3;
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) compare_d8b799c6bcd7(
    const unsigned char *__restrict__ b0,
    const unsigned char *__restrict__ b1,
    unsigned char *__restrict__ b2,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0) {
    done = n0 / 16 * 16;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 16; group += gridDim.x * 256ll) {
      const long long i0 = group * 16;
      const tj_vector<unsigned char, 16> w0 = *(const tj_vector<unsigned char, 16> *)(b0 + i0);
      const tj_vector<unsigned char, 16> w1 = *(const tj_vector<unsigned char, 16> *)(b1 + i0);
      tj_vector<unsigned char, 16> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 16; ++e) {
        const long long i0 = start + e;
        const bool v0 = w0.e[e] != 0;
        const bool v1 = w1.e[e] != 0;
        const bool v2 = v0 < v1;
        w2.e[e] = v2;
      }
      *(tj_vector<unsigned char, 16> *)(b2 + i0) = w2;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const bool v0 = b0[i0] != 0;
    const bool v1 = b1[i0] != 0;
    const bool v2 = v0 < v1;
    b2[i0] = v2;
  }
}
