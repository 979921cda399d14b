"""Tensor cores as CUDA C: products of small tiles of half floats, summed in float32, and how tiles get to them.

A warp multiplies 16x16 by 16x8 elements (``mma.sync``).  What a lane holds of each is a *fragment*; ``ldmatrix`` reads
fragments from shared memory, ``cp.async`` fills that while the warps compute.  All of it is in every GPU since 2020.
"""

from __future__ import annotations

HELPERS = {
    "tj_commit": """\
#ifndef TJ_WITHOUT_PTX
// c += a b; of c a lane has two neighbours in row `lane / 4`, and two in the one 8 below.
#define TJ_MULTIPLY(type) \\
  static __device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { \\
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 " \\
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) \\
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)); \\
  } \\
  static __device__ __forceinline__ unsigned pair(float low, float high) { \\
    unsigned both; \\
    asm("cvt.rn." type "x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low)); \\
    return both; \\
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
""",
}
