// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) scatter_dc2df418728b(
    const int *__restrict__ b0,
    int *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<int, 4> w0 = *(const tj_vector<int, 4> *)(b0 + i0);
      tj_vector<int, 4> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const int v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<int, 4> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const int v0 = b0[i0];
    b1[i0] = v0;
  }
}

// A block for each update that is the first with its target.
extern "C" __global__ void __launch_bounds__(128, 1) scatter_9ddca30ad068(
    const long long *__restrict__ b0,
    const int *__restrict__ b1,
    int *__restrict__ b2,
    const long long n0,
    const long long s1,
    const long long s2
) {
  __shared__ unsigned int masks[4];
  const long long updates = n0;
  const long long window = 9ll;
  const auto target_of = [&](long long update) -> long long {
    const long long i0 = update;
    const long long v0 = b0[i0];
    const long long v1 = v0 > 0ll ? v0 : 0ll;
    const long long v2 = v1 < 11ll ? v1 : 11ll;
    return v2 * 1;
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
            const int v3 = b1[i0 * s1 + i1];
            b2[i1 * s2 + v2] = (int)((unsigned int)b2[i1 * s2 + v2] + (unsigned int)v3);
          }
        }
      }
      __syncthreads();
    }
  }
}
