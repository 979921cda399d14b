// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// Keys and the numbers of their elements, twice: before a pass and after it, by turns.  What the tiles have of each
// digit; which bits there are in the keys.
struct tj_sort {
  unsigned long long *bits, *keys;
  unsigned int *order, *counts;
  long long count, tiles;
};
__device__ __forceinline__ tj_sort tj_sort_of(unsigned char *memory, long long count) {
  tj_sort sort;
  sort.count = count;
  sort.tiles = (count + 4095) / 4096;
  sort.bits = (unsigned long long *)memory;
  sort.keys = sort.bits + 256;
  sort.order = (unsigned int *)(sort.keys + 2 * count);
  sort.counts = sort.order + 2 * count;
  return sort;
}
// How many passes the keys take: so many digits they have.
__device__ __forceinline__ int tj_passes(const tj_sort &sort) {
  unsigned long long bits = 0;
  for (int i = threadIdx.x % 32; i < 256; i += 32) bits |= sort.bits[i];
  #pragma unroll
  for (int half = 16; half > 0; half /= 2) bits |= __shfl_xor_sync(0xffffffffu, bits, half);
  int passes = 0;
  for (; bits; bits >>= 8) ++passes;
  return passes;
}
__device__ __forceinline__ int tj_digit(const tj_sort &sort, int pass, long long at) {
  return (int)(sort.keys[pass % 2 * sort.count + at] >> 8 * pass & 255);
}

// How often each digit is in a tile.
__device__ __forceinline__ void tj_block_sort_counts(const tj_sort &sort, int pass, unsigned int *counts) {
  if (pass >= tj_passes(sort)) return;
  for (long long tile = blockIdx.x; tile < sort.tiles; tile += gridDim.x) {
    counts[threadIdx.x] = 0;
    __syncthreads();
    for (long long at = tile * 4096 + threadIdx.x; at < tile * 4096 + 4096 && at < sort.count; at += 256)
      atomicAdd(&counts[tj_digit(sort, pass, at)], 1u);
    __syncthreads();
    sort.counts[threadIdx.x * sort.tiles + tile] = counts[threadIdx.x];
  }
}

// Where the elements of each digit and tile begin: sums over all digits and tiles before, by one block.
__device__ __forceinline__ void tj_block_sort_offsets(const tj_sort &sort, int pass, unsigned int *sums) {
  if (blockIdx.x || pass >= tj_passes(sort)) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned int before = 0;
  for (long long first = 0; first < 256 * sort.tiles; first += 8192) {
    const long long own = first + threadIdx.x * 8;
    unsigned int counts[8], sum = 0;
    #pragma unroll
    for (int e = 0; e < 8; ++e) {
      counts[e] = own + e < 256 * sort.tiles ? sort.counts[own + e] : 0;
      sum += counts[e];
    }
    unsigned int up_to = sum;
    #pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const unsigned int other = __shfl_up_sync(0xffffffffu, up_to, step);
      if (lane >= step) up_to += other;
    }
    if (lane == 31) sums[warp] = up_to;
    __syncthreads();
    unsigned int start = before + up_to - sum, all = 0;
    #pragma unroll
    for (int other = 0; other < 32; ++other) {
      if (other < warp) start += sums[other];
      all += sums[other];
    }
    before += all;
    #pragma unroll
    for (int e = 0; e < 8; ++e) {
      if (own + e < 256 * sort.tiles) sort.counts[own + e] = start;
      start += counts[e];
    }
    __syncthreads();
  }
}

// Each warp takes its part of a tile in order, so that elements of one digit stay in order.
__device__ __forceinline__ void tj_block_sort_places(const tj_sort &sort, int pass, unsigned int *starts) {
  if (pass >= tj_passes(sort)) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long to = (pass + 1) % 2 * sort.count;
  for (long long tile = blockIdx.x; tile < sort.tiles; tile += gridDim.x) {
    const long long first = tile * 4096 + warp * 512, from = pass % 2 * sort.count + first;
    for (int i = threadIdx.x; i < 8 * 257; i += 256) starts[i] = 0;
    __syncthreads();
    for (int i = lane; i < 512 && first + i < sort.count; i += 32)
      atomicAdd(&starts[warp * 257 + tj_digit(sort, pass, first + i)], 1u);
    __syncthreads();
    unsigned int start = sort.counts[threadIdx.x * sort.tiles + tile];
    #pragma unroll
    for (int other = 0; other < 8; ++other) {
      const unsigned int count = starts[other * 257 + threadIdx.x];
      starts[other * 257 + threadIdx.x] = start;
      start += count;
    }
    __syncthreads();
    for (int i = lane; i < 512; i += 32) {
      const bool is_inside = first + i < sort.count;
      const int digit = is_inside ? tj_digit(sort, pass, first + i) : 256;
      const unsigned int peers = __match_any_sync(0xffffffffu, digit);
      const unsigned int place = starts[warp * 257 + digit] + __popc(peers & ((1u << lane) - 1));
      __syncwarp();
      if (peers >> lane == 1) starts[warp * 257 + digit] = place + 1;  // the last of them
      __syncwarp();
      if (is_inside) {
        sort.keys[to + place] = sort.keys[from + i];
        sort.order[to + place] = sort.order[from + i];
      }
    }
    __syncthreads();
  }
}

// One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) scatter_740460700a2f(
    const float *__restrict__ b0,
    float *__restrict__ b1,
    const long long n0
) {
  long long done = 0;
  if ((unsigned long long)b0 % 16 == 0 && (unsigned long long)b1 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = blockIdx.x * 256ll + threadIdx.x; group < done / 4; group += gridDim.x * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b0 + i0);
      tj_vector<float, 4> w1;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const float v0 = w0.e[e];
        w1.e[e] = v0;
      }
      *(tj_vector<float, 4> *)(b1 + i0) = w1;
    }
  }
  for (long long i0 = done + blockIdx.x * 256ll + threadIdx.x; i0 < n0; i0 += gridDim.x * 256ll) {
    const float v0 = b0[i0];
    b1[i0] = v0;
  }
}

// A thread for each update.
extern "C" __global__ void __launch_bounds__(256, 1) keys_scatter_07d8a58f39d9(
    const long long *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0,
    const long long s1,
    unsigned int *__restrict__ counters,
    unsigned char *partials
) {
  __shared__ unsigned long long found[8];
  const long long updates = n0;
  const long long window = 3ll;
  const auto target_of = [&](long long update) -> long long {
    const long long i0 = update;
    const long long v0 = b0[i0];
    const long long v1 = v0 > 0ll ? v0 : 0ll;
    const long long v2 = v1 < 11ll ? v1 : 11ll;
    return v2 * s1;
  };
  const tj_sort sort = tj_sort_of(partials, updates);
  for (int slot = blockIdx.x; slot < 256; slot += gridDim.x) {
    unsigned long long bits = 0;
    for (long long update = slot * 256ll + threadIdx.x; update < updates; update += 65536) {
      sort.keys[update] = target_of(update);
      sort.order[update] = (unsigned int)update;
      bits |= sort.keys[update];
    }
    #pragma unroll
    for (int half = 16; half > 0; half /= 2) {
      bits |= __shfl_xor_sync(0xffffffffu, bits, half);
    }
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = bits;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int warp = 1; warp < 8; ++warp) bits |= found[warp];
      sort.bits[slot] = bits;
    }
    __syncthreads();
  }
}

// A block for each tile.
extern "C" __global__ void __launch_bounds__(256, 1) counts_scatter_07d8a58f39d9(
    const long long *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0,
    const long long s1,
    unsigned int *__restrict__ counters,
    unsigned char *partials,
    const long long pass
) {
  __shared__ unsigned int table[256];
  tj_block_sort_counts(tj_sort_of(partials, n0), (int)pass, table);
}

// One block.
extern "C" __global__ void __launch_bounds__(1024, 1) offsets_scatter_07d8a58f39d9(
    const long long *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0,
    const long long s1,
    unsigned int *__restrict__ counters,
    unsigned char *partials,
    const long long pass
) {
  __shared__ unsigned int table[32];
  tj_block_sort_offsets(tj_sort_of(partials, n0), (int)pass, table);
}

// A block for each tile.
extern "C" __global__ void __launch_bounds__(256, 1) places_scatter_07d8a58f39d9(
    const long long *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0,
    const long long s1,
    unsigned int *__restrict__ counters,
    unsigned char *partials,
    const long long pass
) {
  __shared__ unsigned int table[2056];
  tj_block_sort_places(tj_sort_of(partials, n0), (int)pass, table);
}

// A warp for each target and part of its window.
extern "C" __global__ void __launch_bounds__(128, 1) sorted_scatter_07d8a58f39d9(
    const long long *__restrict__ b0,
    const float *__restrict__ b1,
    float *__restrict__ b2,
    const long long n0,
    const long long s1,
    unsigned int *__restrict__ counters,
    unsigned char *partials
) {
  const int lane = threadIdx.x % 32;
  const long long updates = n0;
  const long long window = 3ll;
  const tj_sort sort = tj_sort_of(partials, updates);
  const long long last = tj_passes(sort) % 2 * updates;
  const unsigned long long *const keys = sort.keys + last;
  const unsigned int *const order = sort.order + last;
  const long long parts = (window + 127) / 128;
  const long long all = (updates + 7) / 8 * parts;
  for (long long item = blockIdx.x * 4ll + threadIdx.x / 32; item < all; item += gridDim.x * 4ll) {
    const long long place = item / parts * 8, part = item % parts * 128;
    const long long own = place + lane;
    const bool is_start = lane < 8 && own < updates && (!own || keys[own] != keys[own - 1]);
    unsigned int starts = __ballot_sync(0xffffffffu, is_start);
    for (; starts; starts &= starts - 1) {
      const long long first = place + __ffs(starts) - 1, target = keys[first];
      long long end = first;
      for (unsigned int same = 0xffffffffu; same == 0xffffffffu;) {
        const long long at = end + lane;
        same = __ballot_sync(0xffffffffu, at < updates && keys[at] == keys[first]);
        end += __popc(same);
      }
      for (long long element = part + lane; element < window && element < part + 128; element += 32) {
        const long long i1 = element;
        float kept = b2[target + i1];
        #pragma unroll 4
        for (long long at = first; at < end; ++at) {
          const long long update = order[at];
          const long long i0 = update;
          const long long v0 = b0[i0];
          const long long v1 = v0 > 0ll ? v0 : 0ll;
          const long long v2 = v1 < 11ll ? v1 : 11ll;
          const float v3 = b1[i0 * s1 + i1];
          kept = kept + v3;
        }
        b2[target + i1] = kept;
      }
    }
  }
}
