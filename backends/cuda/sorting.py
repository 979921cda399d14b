"""A stable sort by whole numbers, on a device: eight bits at a time, from the lowest, as often as the keys have such.

Each pass counts the digits of every tile of elements, finds where the elements of each digit and tile go, and puts them
there; a launch each, and one that finds the keys goes before them.  Passes beyond the largest key's bits do nothing.
Counts are whole numbers, so the threads may come in any order.

Merrill, Grimshaw: Revisiting sorting for GPGPU stream architectures, 2010.
"""

from __future__ import annotations

from .. import kernel as k
from .emission import Emitter, wide_text


class SortEmitter(Emitter):
    """One of the steps of a pass."""

    def parameters(self) -> list[str]:
        return [*super().parameters(), *SHARED, "const long long pass"]

    def summary(self) -> str:
        return f"{self.form.who}."

    def body(self) -> None:
        extents = " * ".join(wide_text(loop.extent) for loop in self.form.loops)
        self.shared["table"] = f"__shared__ unsigned int table[{TABLES[self.form.kind]}];"
        self.line(f"tj_block_{self.form.kind.replace(' ', '_')}(tj_sort_of(partials, {extents}), (int)pass, table);")

    def place(self) -> None:
        """What a thread does is told by the function that is called."""

    def points(self) -> None:
        raise NotImplementedError("a sort has no points")

    def reduce(self, reduce: k.Reduce) -> None:
        raise NotImplementedError("a sort has no reductions")

    def inner_loop(self, loop: k.Loop) -> None:
        raise NotImplementedError("a sort has no loops")


TABLES = {"sort counts": 256, "sort offsets": 32, "sort places": 8 * 257}  # elements
SHARED = ("unsigned int *__restrict__ counters", "unsigned char *partials")

HELPERS = {
    "tj_sort_of": """\
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
""",
    "tj_block_sort_counts": """\
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
""",
    "tj_block_sort_offsets": """\
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
""",
    "tj_block_sort_places": """\
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
""",
}
