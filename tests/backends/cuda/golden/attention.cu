// To be compiled with -fmad=false: products and sums are rounded one by one.

// The shared memory whose size a launch decides.
#ifndef TJ_DYNAMIC
#define TJ_DYNAMIC(name) extern __shared__ __align__(16) unsigned char name[]
#endif

#ifndef TJ_WITHOUT_PTX
// c += a b; of c a lane has two neighbours in row `lane / 4`, and two in the one 8 below.
#define TJ_MULTIPLY(type) \
  static __device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 " \
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)); \
  } \
  static __device__ __forceinline__ unsigned pair(float low, float high) { \
    unsigned both; \
    asm("cvt.rn." type "x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low)); \
    return both; \
  }
struct tj_bf16 { TJ_MULTIPLY("bf16") };
struct tj_f16 { TJ_MULTIPLY("f16") };
__device__ __forceinline__ unsigned tj_shared(const void *at) { return (unsigned)__cvta_generic_to_shared(at); }
// Four tiles of 8x8, whose rows (of 16 bytes) the lanes point at; each lane gets two neighbours of a row of each.
__device__ __forceinline__ void tj_rows_of(unsigned (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(tj_shared(row)) : "memory");
}
// The same of their transposes.
__device__ __forceinline__ void tj_columns_of(unsigned (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(tj_shared(row)) : "memory");
}
// 16 bytes to shared memory, some time before they are waited for; zeros where there are none.
__device__ __forceinline__ void tj_copy(void *to, const void *from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
    :: "r"(tj_shared(to)), "l"(from), "r"(exists ? 16 : 0) : "memory");
}
__device__ __forceinline__ void tj_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all copies of this thread are there, but those that it has committed last, so many times.
template <int Pending> __device__ __forceinline__ void tj_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(Pending) : "memory");
}
__device__ __forceinline__ float tj_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

struct tj_sizes { int batch, heads, shared, queries, keys; };
// Rows of a matrix for each of a batch's heads: how far they are apart.
struct tj_rows {
  const unsigned short *start;
  long long batch, head, row;
  __device__ __forceinline__ const unsigned short *of(int b, int h) const { return start + b * batch + h * head; }
};
// What a mask says of a score, in units of its exponent of 2: one of bytes tells where a query may look, one of floats
// is added.  It is looked at by tiles, whose first element is at `of`.
struct tj_no_mask {
  static constexpr bool EXISTS = false;
  __device__ __forceinline__ const void *of(int, int, int, int) const { return nullptr; }
  __device__ __forceinline__ float operator()(float score, const void *, int, int) const { return score; }
};
template <typename T> struct tj_mask {
  static constexpr bool EXISTS = true;
  const T *start;
  long long batch, head;
  int row, column;
  __device__ __forceinline__ const T *of(int b, int h, int query, int key) const {
    return start + b * batch + h * head + (long long)query * row + (long long)key * column;
  }
  __device__ __forceinline__ float operator()(float score, const T *tile, int query, int key) const {
    const T found = tile[query * row + key * column];
    if constexpr (sizeof(T) == 1) return found ? score : __int_as_float(0xff800000);
    else return score + found * 1.4426950408889634f;
  }
};
// 64 rows to shared memory, where each is 16 bytes longer, so that 8 of them are in different banks.
template <int SIZE> __device__ __forceinline__ void tj_tile(
    unsigned short *tile, const unsigned short *from, long long row, int first, int extent) {
  #pragma unroll 1
  for (int part = threadIdx.x; part < 64 * SIZE / 8; part += 128) {
    const int r = part / (SIZE / 8), c = part % (SIZE / 8) * 8;
    const bool exists = first + r < extent;
    tj_copy(tile + r * (SIZE + 8) + c, from + (exists ? first + r : 0) * row + c, exists);
  }
}
// Whether there is no such query or key, or it may not look there; both are counted from the first of their tiles.
template <bool CAUSAL>
__device__ __forceinline__ bool tj_is_outside(int row, int column, int rows, int columns, int ahead) {
  return row >= rows || column >= columns || (CAUSAL && column > row + ahead);
}
// The products of a warp's 16 rows of one tile with rows of another.
template <typename Type, int SIZE, int COUNT> __device__ __forceinline__ void tj_scores(
    float (&found)[COUNT / 8][4], const unsigned short *rows, const unsigned short *columns) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  #pragma unroll
  for (int n = 0; n < COUNT / 8; ++n)
    #pragma unroll
    for (int e = 0; e < 4; ++e) found[n][e] = 0;
  #pragma unroll
  for (int step = 0; step < SIZE; step += 16) {
    unsigned a[4], b[4];
    tj_rows_of(a, rows + (warp * 16 + lane % 16) * (SIZE + 8) + step + lane / 16 * 8);
    #pragma unroll
    for (int n = 0; n < COUNT / 16; ++n) {
      tj_rows_of(b, columns + (n * 16 + lane % 8 + lane / 16 * 8) * (SIZE + 8) + step + lane / 8 % 2 * 8);
      Type::multiply(found[2 * n], a, b[0], b[1]);
      Type::multiply(found[2 * n + 1], a, b[2], b[3]);
    }
  }
}
// The weights, rounded, times the rows of a tile, added to what there is.
template <typename Type, int SIZE, int COUNT> __device__ __forceinline__ void tj_mix(
    float (&sums)[SIZE / 8][4], const float (&weights)[COUNT / 8][4], const unsigned short *rows) {
  const int lane = threadIdx.x % 32;
  #pragma unroll
  for (int step = 0; step < COUNT / 16; ++step) {
    const unsigned a[4] = {
      Type::pair(weights[2 * step][0], weights[2 * step][1]), Type::pair(weights[2 * step][2], weights[2 * step][3]),
      Type::pair(weights[2 * step + 1][0], weights[2 * step + 1][1]),
      Type::pair(weights[2 * step + 1][2], weights[2 * step + 1][3])};
    #pragma unroll
    for (int n = 0; n < SIZE / 16; ++n) {
      unsigned b[4];
      tj_columns_of(b, rows + (step * 16 + lane % 16) * (SIZE + 8) + n * 16 + lane / 16 * 8);
      Type::multiply(sums[2 * n], a, b[0], b[1]);
      Type::multiply(sums[2 * n + 1], a, b[2], b[3]);
    }
  }
}
// A warp's 16 rows, to where rows stand one after the other.
template <typename Type, int SIZE> __device__ __forceinline__ void tj_give(
    unsigned short *to, const float (&sums)[SIZE / 8][4], int first, int extent, float scale_above, float scale_below) {
  const int lane = threadIdx.x % 32;
  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + threadIdx.x / 32 * 16 + lane / 4 + 8 * half;
    if (row >= extent) continue;
    const float scale = half ? scale_below : scale_above;
    #pragma unroll
    for (int n = 0; n < SIZE / 8; ++n)
      *(unsigned *)(to + (long long)row * SIZE + n * 8 + lane % 4 * 2) =
        Type::pair(sums[n][2 * half] * scale, sums[n][2 * half + 1] * scale);
  }
}

// 64 queries, and the keys and values in tiles: while one is worked on, the next one is on its way.
template <typename Type, int SIZE, bool CAUSAL, bool OUTPUT, bool LOG_SUM, typename Mask>
__device__ __forceinline__ void tj_block_attention(
    unsigned char *dynamic, const tj_sizes &sizes, const Mask &mask, float scale, const tj_rows &query,
    const tj_rows &key, const tj_rows &value, unsigned short *output, float *log_sum) {
  const int tile = 64 * (SIZE + 8), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned short *const q = (unsigned short *)dynamic, *const k = q + tile, *const v = k + 2 * tile;
  const int query_tiles = (sizes.queries + 63) / 64, all_key_tiles = (sizes.keys + 63) / 64;
  const int heads = sizes.batch * sizes.heads;
  const float step = scale * 1.4426950408889634f, none = __int_as_float(0xff800000);
  for (int item = blockIdx.x; item < query_tiles * heads; item += gridDim.x) {
    const int place = query_tiles - 1 - item / heads;  // those that look at most keys come first
    const int b = item % heads / sizes.heads, h = item % heads % sizes.heads, shared = h / (sizes.heads / sizes.shared);
    const int key_tiles = CAUSAL && place + 1 < all_key_tiles ? place + 1 : all_key_tiles;
    const unsigned short *const keys = key.of(b, shared), *const values = value.of(b, shared);
    tj_tile<SIZE>(q, query.of(b, h), query.row, place * 64, sizes.queries);
    tj_tile<SIZE>(k, keys, key.row, 0, sizes.keys);
    if (OUTPUT) tj_tile<SIZE>(v, values, value.row, 0, sizes.keys);
    tj_commit();
    float sums[SIZE / 8][4] = {}, largest[2] = {none, none}, total[2] = {0, 0};
    for (int j = 0; j < key_tiles; ++j) {
      const int now = j % 2 * tile, next = tile - now;
      if (j + 1 < key_tiles) {
        tj_tile<SIZE>(k + next, keys, key.row, (j + 1) * 64, sizes.keys);
        if (OUTPUT) tj_tile<SIZE>(v + next, values, value.row, (j + 1) * 64, sizes.keys);
        tj_commit();
        tj_wait<1>();
      } else {
        tj_wait<0>();
      }
      __syncthreads();
      float weights[8][4];
      tj_scores<Type, SIZE, 64>(weights, q, k + now);
      const int rows = sizes.queries - place * 64, columns = sizes.keys - j * 64;
      const bool is_edge = columns < 64 || (CAUSAL && j >= place) || (Mask::EXISTS && rows < 64);
      const auto *const masks = mask.of(b, h, place * 64, j * 64);
      #pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp * 16 + lane / 4 + 8 * half;
        float best = largest[half], sum = 0;
        #pragma unroll
        for (int n = 0; n < 8; ++n)
          #pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            const int column = n * 8 + lane % 4 * 2 + e % 2;
            float score = weights[n][e] * step;
            if (is_edge && tj_is_outside<CAUSAL>(row, column, rows, columns, (place - j) * 64)) score = none;
            else score = mask(score, masks, row, column);
            weights[n][e] = score;
            best = fmaxf(best, score);
          }
        best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
        best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
        const float shift = best == none ? 0 : best, decay = tj_exp2(largest[half] - shift);
        #pragma unroll
        for (int n = 0; n < 8; ++n)
          #pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            weights[n][e] = tj_exp2(weights[n][e] - shift);
            sum += weights[n][e];
          }
        #pragma unroll
        for (int n = 0; n < SIZE / 8; ++n) sums[n][2 * half] *= decay, sums[n][2 * half + 1] *= decay;
        total[half] = total[half] * decay + sum;
        largest[half] = best;
      }
      if (OUTPUT) tj_mix<Type, SIZE, 64>(sums, weights, v + now);
      __syncthreads();
    }
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
      const int row = place * 64 + warp * 16 + lane / 4 + 8 * half;
      if (LOG_SUM && lane % 4 == 0 && row < sizes.queries)
        log_sum[(long long)(b * sizes.heads + h) * sizes.queries + row] =
          (largest[half] + log2f(total[half])) * 0.6931471805599453f;
    }
    if (OUTPUT)
      tj_give<Type, SIZE>(output + (long long)(b * sizes.heads + h) * sizes.queries * SIZE, sums, place * 64,
        sizes.queries, total[0] == 0 ? 0 : 1 / total[0], total[1] == 0 ? 0 : 1 / total[1]);
  }
}

// The gradients of 64 queries, summed over the keys in order.
template <typename Type, int SIZE, bool CAUSAL, typename Mask>
__device__ __forceinline__ void tj_block_attention_queries(
    unsigned char *dynamic, const tj_sizes &sizes, const Mask &mask, float scale, const tj_rows &query,
    const tj_rows &key, const tj_rows &value, const tj_rows &cotangent, const float *log_sum, const float *delta,
    unsigned short *query_gradient) {
  const int tile = 64 * (SIZE + 8), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned short *const q = (unsigned short *)dynamic, *const g = q + tile, *const k = g + tile, *const v = k + tile;
  const int query_tiles = (sizes.queries + 63) / 64, all_key_tiles = (sizes.keys + 63) / 64;
  const int heads = sizes.batch * sizes.heads;
  const float step = scale * 1.4426950408889634f, none = __int_as_float(0xff800000);
  for (int item = blockIdx.x; item < query_tiles * heads; item += gridDim.x) {
    const int place = query_tiles - 1 - item / heads;
    const int b = item % heads / sizes.heads, h = item % heads % sizes.heads, shared = h / (sizes.heads / sizes.shared);
    const int key_tiles = CAUSAL && place + 1 < all_key_tiles ? place + 1 : all_key_tiles;
    const unsigned short *const keys = key.of(b, shared), *const values = value.of(b, shared);
    const long long start = (long long)(b * sizes.heads + h) * sizes.queries;
    tj_tile<SIZE>(q, query.of(b, h), query.row, place * 64, sizes.queries);
    tj_tile<SIZE>(g, cotangent.of(b, h), cotangent.row, place * 64, sizes.queries);
    float sums[SIZE / 8][4] = {}, norm[2], mean[2];
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = place * 64 + warp * 16 + lane / 4 + 8 * half;
      norm[half] = row < sizes.queries ? log_sum[start + row] : none;
      mean[half] = row < sizes.queries ? delta[start + row] : 0;
      norm[half] = norm[half] == none ? -none : norm[half] * 1.4426950408889634f;  // all is masked: weights of 0
    }
    for (int j = 0; j < key_tiles; ++j) {
      tj_tile<SIZE>(k, keys, key.row, j * 64, sizes.keys);
      tj_tile<SIZE>(v, values, value.row, j * 64, sizes.keys);
      tj_commit();
      tj_wait<0>();
      __syncthreads();
      float weights[8][4], changes[8][4];
      tj_scores<Type, SIZE, 64>(weights, q, k);
      tj_scores<Type, SIZE, 64>(changes, g, v);
      const int rows = sizes.queries - place * 64, columns = sizes.keys - j * 64;
      const bool is_edge = columns < 64 || (CAUSAL && j >= place) || (Mask::EXISTS && rows < 64);
      const auto *const masks = mask.of(b, h, place * 64, j * 64);
      #pragma unroll
      for (int n = 0; n < 8; ++n)
        #pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = warp * 16 + lane / 4 + e / 2 * 8, column = n * 8 + lane % 4 * 2 + e % 2;
          float score = weights[n][e] * step;
          if (is_edge && tj_is_outside<CAUSAL>(row, column, rows, columns, (place - j) * 64)) score = none;
          else score = mask(score, masks, row, column);
          weights[n][e] = tj_exp2(score - norm[e / 2]) * (changes[n][e] - mean[e / 2]);
        }
      tj_mix<Type, SIZE, 64>(sums, weights, k);
      __syncthreads();
    }
    tj_give<Type, SIZE>(query_gradient + start * SIZE, sums, place * 64, sizes.queries, scale, scale);
  }
}

// The gradients of 64 keys and values, summed over the queries of all heads that share them, in order.
template <typename Type, int SIZE, bool CAUSAL, bool KEYS, bool VALUES, typename Mask>
__device__ __forceinline__ void tj_block_attention_keys(
    unsigned char *dynamic, const tj_sizes &sizes, const Mask &mask, float scale, const tj_rows &query,
    const tj_rows &key, const tj_rows &value, const tj_rows &cotangent, const float *log_sum, const float *delta,
    unsigned short *key_gradient, unsigned short *value_gradient) {
  const int PART = KEYS && VALUES ? 32 : 64;  // queries at a time, as registers allow
  const int tile = 64 * (SIZE + 8), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned short *const q = (unsigned short *)dynamic, *const g = q + tile, *const k = g + tile, *const v = k + tile;
  float *const norms = (float *)(v + tile), *const means = norms + 64;
  const int query_tiles = (sizes.queries + 63) / 64, key_tiles = (sizes.keys + 63) / 64;
  const int heads = sizes.batch * sizes.shared, group = sizes.heads / sizes.shared;
  const float step = scale * 1.4426950408889634f, none = __int_as_float(0xff800000);
  for (int item = blockIdx.x; item < key_tiles * heads; item += gridDim.x) {
    const int place = item / heads, b = item % heads / sizes.shared, shared = item % heads % sizes.shared;
    tj_tile<SIZE>(k, key.of(b, shared), key.row, place * 64, sizes.keys);
    if (KEYS) tj_tile<SIZE>(v, value.of(b, shared), value.row, place * 64, sizes.keys);
    tj_commit();
    float key_sums[SIZE / 8][4] = {}, value_sums[SIZE / 8][4] = {};
    for (int h = shared * group; h < shared * group + group; ++h) {
      const long long start = (long long)(b * sizes.heads + h) * sizes.queries;
      for (int i = CAUSAL ? place : 0; i < query_tiles; ++i) {
        tj_tile<SIZE>(q, query.of(b, h), query.row, i * 64, sizes.queries);
        tj_tile<SIZE>(g, cotangent.of(b, h), cotangent.row, i * 64, sizes.queries);
        tj_commit();
        if (threadIdx.x < 64) {
          const int row = i * 64 + threadIdx.x;
          const float norm = row < sizes.queries ? log_sum[start + row] : none;
          norms[threadIdx.x] = norm == none ? -none : norm * 1.4426950408889634f;
          if (KEYS) means[threadIdx.x] = row < sizes.queries ? delta[start + row] : 0;
        }
        tj_wait<0>();
        __syncthreads();
        const int rows = sizes.queries - i * 64, columns = sizes.keys - place * 64;
        const bool is_edge = (CAUSAL && i <= place) || (Mask::EXISTS && (rows < 64 || columns < 64));
        const auto *const masks = mask.of(b, h, i * 64, place * 64);
        #pragma unroll 1
        for (int part = 0; part < 64; part += PART) {
          float weights[PART / 8][4], changes[PART / 8][4];
          tj_scores<Type, SIZE, PART>(weights, k, q + part * (SIZE + 8));
          if (KEYS) tj_scores<Type, SIZE, PART>(changes, v, g + part * (SIZE + 8));
          #pragma unroll
          for (int n = 0; n < PART / 8; ++n)
            #pragma unroll
            for (int e = 0; e < 4; ++e) {
              const int row = part + n * 8 + lane % 4 * 2 + e % 2, column = warp * 16 + lane / 4 + e / 2 * 8;
              float score = weights[n][e] * step;
              if (is_edge && tj_is_outside<CAUSAL>(row, column, rows, columns, (i - place) * 64)) score = none;
              else score = mask(score, masks, row, column);
              weights[n][e] = tj_exp2(score - norms[row]);
              if (KEYS) changes[n][e] = weights[n][e] * (changes[n][e] - means[row]);
            }
          if (VALUES) tj_mix<Type, SIZE, PART>(value_sums, weights, g + part * (SIZE + 8));
          if (KEYS) tj_mix<Type, SIZE, PART>(key_sums, changes, q + part * (SIZE + 8));
        }
        __syncthreads();
      }
    }
    const long long first = (long long)(b * sizes.shared + shared) * sizes.keys * SIZE;
    if (KEYS) tj_give<Type, SIZE>(key_gradient + first, key_sums, place * 64, sizes.keys, scale, scale);
    if (VALUES) tj_give<Type, SIZE>(value_gradient + first, value_sums, place * 64, sizes.keys, 1, 1);
    tj_wait<0>();  // where no query looks at the keys
    __syncthreads();
  }
}

// A block for 64 queries of a head.
extern "C" __global__ void __launch_bounds__(128, 1) attention_forward_712c7c8b652a(
    const unsigned short *__restrict__ query,
    const unsigned short *__restrict__ key,
    const unsigned short *__restrict__ value,
    unsigned short *__restrict__ output,
    float *__restrict__ log_sum,
    const long long batch,
    const long long heads,
    const long long shared,
    const long long queries,
    const long long keys,
    const long long query_start,
    const long long query_batch,
    const long long query_head,
    const long long query_row,
    const long long key_start,
    const long long key_batch,
    const long long key_head,
    const long long key_row,
    const long long value_start,
    const long long value_batch,
    const long long value_head,
    const long long value_row
) {
  TJ_DYNAMIC(dynamic);
  const tj_sizes sizes = {(int)batch, (int)heads, (int)shared, (int)queries, (int)keys};
  const tj_rows query_rows = {query + query_start, query_batch, query_head, query_row};
  const tj_rows key_rows = {key + key_start, key_batch, key_head, key_row};
  const tj_rows value_rows = {value + value_start, value_batch, value_head, value_row};
  const tj_no_mask mask_at = {};
  tj_block_attention<tj_bf16, 32, true, true, true>(dynamic, sizes, mask_at, 0x1.6a09e6p-3f, query_rows, key_rows, value_rows, output, log_sum);
}

// A block for 64 queries of a head.
extern "C" __global__ void __launch_bounds__(128, 1) attention_queries_15126698bce6(
    const unsigned short *__restrict__ query,
    const unsigned short *__restrict__ key,
    const unsigned short *__restrict__ value,
    const unsigned short *__restrict__ cotangent,
    const float *__restrict__ log_sum,
    const float *__restrict__ delta,
    unsigned short *__restrict__ query_gradient,
    const long long batch,
    const long long heads,
    const long long shared,
    const long long queries,
    const long long keys,
    const long long query_start,
    const long long query_batch,
    const long long query_head,
    const long long query_row,
    const long long key_start,
    const long long key_batch,
    const long long key_head,
    const long long key_row,
    const long long value_start,
    const long long value_batch,
    const long long value_head,
    const long long value_row,
    const long long cotangent_start,
    const long long cotangent_batch,
    const long long cotangent_head,
    const long long cotangent_row
) {
  TJ_DYNAMIC(dynamic);
  const tj_sizes sizes = {(int)batch, (int)heads, (int)shared, (int)queries, (int)keys};
  const tj_rows query_rows = {query + query_start, query_batch, query_head, query_row};
  const tj_rows key_rows = {key + key_start, key_batch, key_head, key_row};
  const tj_rows value_rows = {value + value_start, value_batch, value_head, value_row};
  const tj_rows cotangent_rows = {cotangent + cotangent_start, cotangent_batch, cotangent_head, cotangent_row};
  const tj_no_mask mask_at = {};
  tj_block_attention_queries<tj_bf16, 32, true>(dynamic, sizes, mask_at, 0x1.6a09e6p-3f, query_rows, key_rows, value_rows, cotangent_rows, log_sum, delta, query_gradient);
}

// A block for 64 keys of a head.
extern "C" __global__ void __launch_bounds__(128, 1) attention_keys_d9475c75854b(
    const unsigned short *__restrict__ query,
    const unsigned short *__restrict__ key,
    const unsigned short *__restrict__ value,
    const unsigned short *__restrict__ cotangent,
    const float *__restrict__ log_sum,
    const float *__restrict__ delta,
    unsigned short *__restrict__ key_gradient,
    unsigned short *__restrict__ value_gradient,
    const long long batch,
    const long long heads,
    const long long shared,
    const long long queries,
    const long long keys,
    const long long query_start,
    const long long query_batch,
    const long long query_head,
    const long long query_row,
    const long long key_start,
    const long long key_batch,
    const long long key_head,
    const long long key_row,
    const long long value_start,
    const long long value_batch,
    const long long value_head,
    const long long value_row,
    const long long cotangent_start,
    const long long cotangent_batch,
    const long long cotangent_head,
    const long long cotangent_row
) {
  TJ_DYNAMIC(dynamic);
  const tj_sizes sizes = {(int)batch, (int)heads, (int)shared, (int)queries, (int)keys};
  const tj_rows query_rows = {query + query_start, query_batch, query_head, query_row};
  const tj_rows key_rows = {key + key_start, key_batch, key_head, key_row};
  const tj_rows value_rows = {value + value_start, value_batch, value_head, value_row};
  const tj_rows cotangent_rows = {cotangent + cotangent_start, cotangent_batch, cotangent_head, cotangent_row};
  const tj_no_mask mask_at = {};
  tj_block_attention_keys<tj_bf16, 32, true, true, true>(dynamic, sizes, mask_at, 0x1.6a09e6p-3f, query_rows, key_rows, value_rows, cotangent_rows, log_sum, delta, key_gradient, value_gradient);
}
