// To be compiled with -fmad=false: products and sums are rounded one by one.

// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };

// The arguments of many launches: addresses and numbers, and the blocks at which each one's end.
template <int Words, int Sets> struct tj_table { long long words[Sets][Words]; unsigned int end[Sets]; };

// Many sets of buffers. One thread for each i0.
extern "C" __global__ void __launch_bounds__(256, 1) each_4_multiply_subtract_698a5cae8c18(
    const __grid_constant__ tj_table<5, 4> table
) {
  int set = 0;  // the first whose blocks end behind this one; all that are not there end with the last
  for (int step = 2; step > 0; step /= 2)
    if (table.end[set + step - 1] <= blockIdx.x) set += step;
  const long long start = set ? table.end[set - 1] : 0;
  const long long own = blockIdx.x - start, blocks = table.end[set] - start;
  const float *__restrict__ const b0 = (const float *)table.words[set][0];
  const float *__restrict__ const b1 = (const float *)table.words[set][1];
  const float *__restrict__ const b2 = (const float *)table.words[set][2];
  float *__restrict__ const b3 = (float *)table.words[set][3];
  const long long n0 = table.words[set][4];
  const float v0 = b0[0];
  long long done = 0;
  if ((unsigned long long)b1 % 16 == 0 && (unsigned long long)b2 % 16 == 0 && (unsigned long long)b3 % 16 == 0) {
    done = n0 / 4 * 4;
    for (long long group = own * 256ll + threadIdx.x; group < done / 4; group += blocks * 256ll) {
      const long long i0 = group * 4;
      const tj_vector<float, 4> w0 = *(const tj_vector<float, 4> *)(b1 + i0);
      const tj_vector<float, 4> w1 = *(const tj_vector<float, 4> *)(b2 + i0);
      tj_vector<float, 4> w2;
      const long long start = i0;
      #pragma unroll
      for (int e = 0; e < 4; ++e) {
        const long long i0 = start + e;
        const float v1 = w0.e[e];
        const float v2 = v1 * v0;
        const float v3 = w1.e[e];
        const float v4 = v3 - v2;
        w2.e[e] = v4;
      }
      *(tj_vector<float, 4> *)(b3 + i0) = w2;
    }
  }
  for (long long i0 = done + own * 256ll + threadIdx.x; i0 < n0; i0 += blocks * 256ll) {
    const float v1 = b1[i0];
    const float v2 = v1 * v0;
    const float v3 = b2[i0];
    const float v4 = v3 - v2;
    b3[i0] = v4;
  }
}
