// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// Halves are passed round by their bits, and computed with as floats.
#ifndef TJ_WITHOUT_PTX
__device__ __forceinline__ float tj_from_f16(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
#endif

#ifndef TJ_WITHOUT_PTX
__device__ __forceinline__ unsigned short tj_to_f16(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
#endif

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) scatter_1a69db4911ac(
    const unsigned short *__restrict__ b0,
    unsigned short *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 8 * 8;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 8; group += gridDim.x * 256ll) {
      const long long i0 = group * 8;
      const tj_vector<unsigned short, 8> w0 = *(const tj_vector<unsigned short, 8> *)(b0 + i0);
      tj_vector<unsigned short, 8> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 8; ++e) {
        const long long i0 = start + e;
        const unsigned short v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<unsigned short, 8> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const unsigned short v0 = b0[i0];
    b1[i0] = v0;
  }
}

// A block for each update that is the first with its target.
extern "C" __global__ void __launch_bounds__(128, 1) scatter_c8a78bc1623b(
    const long long *__restrict__ b0,
    const unsigned short *__restrict__ b1,
    unsigned short *__restrict__ b2,
    const long long n0,
    const long long n1,
    const long long s2
) {
  __shared__ unsigned int masks[4];
  const long long updates = n0;
  const long long window = n1;
  const auto target_of = [&](long long update) -> long long {
    const long long i0 = update;
    const long long v0 = b0[i0];
    const long long v1 = v0 > 0ll ? v0 : 0ll;
    const long long v2 = v1 < 11ll ? v1 : 11ll;
    return v2 * s2;
  };
  for (long long own = blockIdx.x; own < updates; own += gridDim.x) {
    const long long target = target_of(own);
    bool is_taken = false;
    for (long long last = own - 1; last >= 0 && !is_taken; last -= 128) {
      const long long other = last - threadIdx.x;
      is_taken = __syncthreads_or(other >= 0 && target_of(other) == target);
    }
    if (is_taken) continue;
    for (long long first = own; first < updates; first += 128) {
      const long long other = first + threadIdx.x;
      const bool is_same = other < updates && target_of(other) == target;
      const unsigned int mask = __ballot_sync(0xffffffffu, is_same);
      if (threadIdx.x % 32 == 0) masks[threadIdx.x / 32] = mask;
      if (!__syncthreads_or(is_same)) continue;
      for (long long element = threadIdx.x; element < window; element += 128) {
        for (int warp = 0; warp < 4; ++warp) {
          for (unsigned int rest = masks[warp]; rest; rest &= rest - 1) {
            const long long update = first + warp * 32 + __ffs(rest) - 1;
            const long long i0 = update;
            const long long i1 = element;
            const long long v0 = b0[i0];
            const long long v1 = v0 > 0ll ? v0 : 0ll;
            const long long v2 = v1 < 11ll ? v1 : 11ll;
            const unsigned short v3 = b1[i0 * s2 + i1];
            b2[i1 + v2 * s2] = tj_to_f16(tj_from_f16(b2[i1 + v2 * s2]) + tj_from_f16(v3));
          }
        }
      }
      __syncthreads();
    }
  }
}
