// Lets the text of CUDA kernels be compiled by g++ and run on a CPU.  What CUDA adds to C++ and the kernels use:
// the thread's coordinates, barriers and shuffles (built on threads.h), and a few functions.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "threads.h"

#define __global__
#define __device__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define TJ_DYNAMIC(name) unsigned char *const name = shim::dynamic
#define __shared__ static __attribute__((section("shared_memory")))

#define threadIdx (shim::current->index)
#define blockIdx (shim::block)
#define blockDim (shim::block_extent)
#define gridDim (shim::grid_extent)

inline void __threadfence() {}  // blocks run one after the other
inline unsigned int atomicAdd(unsigned int *at, unsigned int value) { return (*at += value) - value; }
template <typename T> T __ldcg(const T *from) { return *from; }
#define __syncthreads() shim::barrier(__LINE__)

// Every lane of a warp shows a value, and reads that of the lane `source(own lane)`.
template <typename T, typename Source> T shim_shuffle(unsigned mask, T value, Source source, int line) {
  static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  const uint64_t *shown = shim::exchange(mask, bits, line);
  memcpy(&value, &shown[source(shim::current->lane) & 31], sizeof value);
  return value;
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int bits, int line = __builtin_LINE()) {
  return shim_shuffle(mask, value, [=](int lane) { return lane ^ bits; }, line);
}
template <typename T> T __shfl_sync(unsigned mask, T value, int source, int line = __builtin_LINE()) {
  return shim_shuffle(mask, value, [=](int) { return source; }, line);
}
inline unsigned int __ballot_sync(unsigned int mask, int predicate, int line = __builtin_LINE()) {
  const uint64_t *shown = shim::exchange(mask, predicate != 0, line);
  unsigned int bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= (mask >> lane & 1 & (unsigned int)shown[lane]) << lane;
  return bits;
}
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
  if (predicate) shim::any = 1;
  shim::barrier(line);
  const int found = shim::any;
  shim::barrier(line);
  shim::any = 0;
  shim::barrier(line);
  return found;
}
template <typename T> unsigned int __match_any_sync(unsigned int mask, T value, int line = __builtin_LINE()) {
  const uint64_t *shown = shim::exchange(mask, (uint64_t)value, line);
  unsigned int bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= (mask >> lane & 1 & (unsigned int)(shown[lane] == (uint64_t)value)) << lane;
  return bits;
}
inline void __syncwarp(int line = __builtin_LINE()) { shim::exchange(0xffffffffu, 0, line); }
template <typename T> T __shfl_up_sync(unsigned mask, T value, int step, int line = __builtin_LINE()) {
  return shim_shuffle(mask, value, [=](int lane) { return lane < step ? lane : lane - step; }, line);
}
inline int __popc(unsigned int bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
template <typename T> T __shfl_down_sync(unsigned mask, T value, int step, int line = __builtin_LINE()) {
  return shim_shuffle(mask, value, [=](int lane) { return lane + step < 32 ? lane + step : lane; }, line);
}

template <typename To, typename From> To shim_bits(From from) {
  To to;
  static_assert(sizeof to == sizeof from, "the same bits as another type");
  memcpy(&to, &from, sizeof to);
  return to;
}
inline int __float_as_int(float x) { return shim_bits<int>(x); }
inline float __int_as_float(int x) { return shim_bits<float>(x); }
inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }

// In place of PTX: conversions of halves.
#define TJ_WITHOUT_PTX
inline float tj_from_f16(unsigned short bits) {
  const unsigned sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
  if (rest >= 0x7c00) return shim_bits<float>(sign | 0x7f800000u | (rest & 0x3ff) << 13);
  return shim_bits<float>(shim_bits<unsigned>(ldexpf(rest < 0x400 ? rest : (rest & 0x3ff) | 0x400,
                                                     rest < 0x400 ? -24 : (int)(rest >> 10) - 25)) | sign);
}
inline unsigned short tj_to_f16(float x) {
  const unsigned bits = shim_bits<unsigned>(x), sign = bits >> 16 & 0x8000u;
  const float size = fabsf(x);
  if (x != x) return 0x7fff;
  if (size >= 65520.0f) return sign | 0x7c00;
  const int last = size < 0x1p-14f ? -24 : ilogbf(size) - 10;  // the exponent of the last digit
  const unsigned digits = (unsigned)rintf(ldexpf(size, -last));
  return sign | (last == -24 ? digits : digits + ((unsigned)(last + 24) << 10));
}
inline unsigned short tj_to_bf16(float x) {
  const unsigned bits = shim_bits<unsigned>(x);
  return x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline unsigned int __umulhi(unsigned int x, unsigned int y) { return (uint64_t)x * y >> 32; }

// Tensor cores.  The layout of fragments is the PTX manual's, for m16n8k16; copies are there when they are waited for.
inline void shim_pairs(unsigned (&first)[32], unsigned (&second)[32], unsigned own_first, unsigned own_second, int line) {
  const uint64_t *shown = shim::exchange(0xffffffffu, own_first | (uint64_t)own_second << 32, line);
  for (int lane = 0; lane < 32; ++lane) first[lane] = (unsigned)shown[lane], second[lane] = shown[lane] >> 32;
}
inline float shim_bf16(unsigned short bits) { return shim_bits<float>((unsigned)bits << 16); }
template <float Value(unsigned short)>
void shim_multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, int line) {
  unsigned left[4][32], right[2][32];
  shim_pairs(left[0], left[1], a[0], a[1], line);
  shim_pairs(left[2], left[3], a[2], a[3], line);
  shim_pairs(right[0], right[1], b0, b1, line);
  const int lane = shim::current->lane;
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + 8 * (e / 2), column = lane % 4 * 2 + e % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) {
      const unsigned x = left[row / 8 + 2 * (k / 8)][row % 8 * 4 + k % 8 / 2], y = right[k / 8][column * 4 + k % 8 / 2];
      sum += Value(x >> k % 2 * 16) * Value(y >> k % 2 * 16);
    }
    c[e] += sum;
  }
}
struct tj_bf16 {
  static void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, int line = __builtin_LINE()) {
    shim_multiply<shim_bf16>(c, a, b0, b1, line);
  }
  static unsigned pair(float low, float high) { return tj_to_bf16(low) | (unsigned)tj_to_bf16(high) << 16; }
};
struct tj_f16 {
  static void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, int line = __builtin_LINE()) {
    shim_multiply<tj_from_f16>(c, a, b0, b1, line);
  }
  static unsigned pair(float low, float high) { return tj_to_f16(low) | (unsigned)tj_to_f16(high) << 16; }
};
inline void tj_rows_of(unsigned (&r)[4], const void *row, int line = __builtin_LINE()) {
  const uint64_t *shown = shim::exchange(0xffffffffu, (uint64_t)row, line);
  const int lane = shim::current->lane;
  for (int tile = 0; tile < 4; ++tile) {
    if (shown[8 * tile + lane / 4] % 16) __builtin_trap();
    r[tile] = *(const unsigned *)(shown[8 * tile + lane / 4] + 4 * (lane % 4));
  }
}
inline void tj_columns_of(unsigned (&r)[4], const void *row, int line = __builtin_LINE()) {
  const uint64_t *shown = shim::exchange(0xffffffffu, (uint64_t)row, line);
  const int lane = shim::current->lane;
  for (int tile = 0; tile < 4; ++tile) {
    const uint64_t first = shown[8 * tile + lane % 4 * 2], second = shown[8 * tile + lane % 4 * 2 + 1];
    if (first % 16 || second % 16) __builtin_trap();
    r[tile] = ((const unsigned short *)first)[lane / 4] | (unsigned)((const unsigned short *)second)[lane / 4] << 16;
  }
}
struct shim_copy { void *to; const void *from; bool exists; int group; };
static shim_copy shim_copies[shim::MOST_THREADS][64];
static int shim_count[shim::MOST_THREADS], shim_group[shim::MOST_THREADS];
static unsigned shim_launch[shim::MOST_THREADS];
inline void tj_copy(void *to, const void *from, bool exists) {
  const int thread = shim::current->number;
  if (shim_launch[thread] != shim::launches) shim_count[thread] = 0;  // what an earlier one left when it failed
  shim_launch[thread] = shim::launches;
  if ((size_t)to % 16 || (size_t)from % 16 || shim_count[thread] == 64) __builtin_trap();
  memset(to, 0xff, 16);
  shim_copies[thread][shim_count[thread]++] = {to, from, exists, shim_group[thread]};
}
inline void tj_commit() { ++shim_group[shim::current->number]; }
template <int Pending> void tj_wait() {
  const int thread = shim::current->number;
  int kept = 0;
  for (int i = 0; i < shim_count[thread]; ++i) {
    const shim_copy one = shim_copies[thread][i];
    if (one.group >= shim_group[thread] - Pending) shim_copies[thread][kept++] = one;
    else if (one.exists) memcpy(one.to, one.from, 16);
    else memset(one.to, 0, 16);
  }
  shim_count[thread] = kept;
}
inline float tj_exp2(float x) { return exp2f(x); }
