// The threads of a block as fibres of one CPU thread.  A fibre runs until it waits at a barrier or in a warp's
// exchange, and the next one is chosen in one of three orders: with a barrier missing, one order reads what another
// has not written yet.  Blocks run one after the other.
#pragma once
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <utility>

extern "C" {  // the bounds of the section that holds all __shared__ arrays, where there are any
extern unsigned char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern unsigned char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));
}

namespace shim {

enum Order { UP, DOWN, SHUFFLED };
enum State { READY, AT_BARRIER, IN_WARP, DONE };
struct Extent { unsigned int x, y, z; };
struct Fibre {
  ucontext_t context;
  Extent index;
  int number, lane, line;
  State state;
};
struct Warp {
  uint64_t shown[2][32];  // two exchanges: a lane may still read the last one while others are in the next
  unsigned mask, arrived, turn;
  int line;
};

static const int MOST_THREADS = 1024;
static const size_t STACK_BYTES = 64 << 10;
static Fibre fibres[MOST_THREADS];
static Warp warps[MOST_THREADS / 32];
static Fibre *current;
static Extent block, block_extent, grid_extent;
static int threads, at_barrier, barrier_line, any;
static unsigned launches;
static ucontext_t scheduler;
static unsigned char *stacks;
static const size_t MOST_DYNAMIC = 227 << 10;
static unsigned char *dynamic_end, *dynamic;  // the shared memory of a launch's own size ends at an unreadable page
static size_t dynamic_bytes;
static char *error;  // 256 bytes; empty while all is well

[[noreturn]] static void fail(const char *format, ...) {
  int length = snprintf(error, 256, "block %u, thread %d: ", block.x, current->number);
  va_list values;
  va_start(values, format);
  vsnprintf(error + length, 256 - length, format, values);
  va_end(values);
  setcontext(&scheduler);
  __builtin_unreachable();
}

static void wait(State state, int line) {
  current->state = state;
  current->line = line;
  swapcontext(&current->context, &scheduler);
}

static void barrier(int line) {
  if (at_barrier && line != barrier_line) fail("waits at the barrier in line %d, others at line %d", line, barrier_line);
  barrier_line = line;
  if (++at_barrier == threads) {
    at_barrier = 0;
    for (int i = 0; i < threads; ++i)
      if (fibres[i].state == AT_BARRIER) fibres[i].state = READY;
    wait(READY, line);
  } else {
    wait(AT_BARRIER, line);
  }
}

// The values that the lanes of `mask` show, once all of them have arrived.
static const uint64_t *exchange(unsigned mask, uint64_t value, int line) {
  Warp &warp = warps[current->number / 32];
  uint64_t *shown = warp.shown[warp.turn];
  if (!(mask >> current->lane & 1)) fail("shuffles in line %d without being in the mask", line);
  if (!warp.arrived) {
    warp.mask = mask;
    warp.line = line;
    memset(shown, 0xff, sizeof warp.shown[0]);
  } else if (warp.mask != mask || warp.line != line) {
    fail("shuffles in line %d, other lanes of the warp in line %d", line, warp.line);
  }
  shown[current->lane] = value;
  warp.arrived |= 1u << current->lane;
  if (warp.arrived == mask) {
    warp.arrived = 0;
    warp.turn ^= 1;
    for (int i = current->number / 32 * 32; i < threads && i < current->number / 32 * 32 + 32; ++i)
      if (fibres[i].state == IN_WARP) fibres[i].state = READY;
  } else {
    wait(IN_WARP, line);
  }
  return shown;
}

static void (*call)(void *kernel, void **arguments);
static void *kernel;
static void **arguments;

static void run_thread() {
  call(kernel, arguments);
  wait(DONE, 0);
}

static void start(Fibre &fibre, int number) {
  fibre.number = number;
  fibre.lane = number % 32;
  fibre.index = {(unsigned)number, 0, 0};
  fibre.state = READY;
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = stacks + number * STACK_BYTES;
  fibre.context.uc_stack.ss_size = STACK_BYTES;
  makecontext(&fibre.context, run_thread, 0);
}

// Runs those of the fibres that can run, until none can; false where none could.
static bool run_group(const int *numbers, int count) {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (int i = 0; i < count; ++i) {
      if (fibres[numbers[i]].state != READY) continue;
      any = again = true;
      current = &fibres[numbers[i]];
      swapcontext(&scheduler, &current->context);
      if (*error) return false;
    }
  }
  return any;
}

// A kernel whose threads wait for nobody: they run one after the other, without fibres.
static void run_block_plainly(Order order) {
  volatile int i = 0;
  getcontext(&scheduler);  // where a fault leads to
  if (*error) return;
  for (; i < threads; ++i) {
    const int number = order == UP ? i : threads - 1 - i;
    current = &fibres[number];
    current->number = number;
    current->lane = number % 32;
    current->index = {(unsigned)number, 0, 0};
    call(kernel, arguments);
  }
}

static void run_block(Order order) {
  static int numbers[MOST_THREADS];
  static unsigned random = 1;
  at_barrier = 0;
  memset(warps, 0, sizeof warps);
  if (dynamic_bytes) memset(dynamic, 0xff, dynamic_bytes);
  if (__start_shared_memory) memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
  for (int i = 0; i < threads; ++i) {
    start(fibres[i], i);
    numbers[i] = order == DOWN ? threads - 1 - i : i;
  }
  for (int i = threads - 1; order == SHUFFLED && i > 0; --i) {
    random = random * 1664525u + 1013904223u;
    std::swap(numbers[i], numbers[(random >> 8) % (i + 1)]);
  }
  // One warp after the other goes as far as it can, so that it may be far ahead of the rest; or all go in turn.
  const int group = order == SHUFFLED ? threads : 32;
  for (bool any = true; any && !*error;) {
    any = false;
    for (int i = 0; i < threads && !*error; i += group) any |= run_group(numbers + i, group < threads - i ? group : threads - i);
  }
  for (int i = 0; i < threads && !*error; ++i) {
    current = &fibres[i];
    if (current->state != DONE) {
      const char *what = current->state == AT_BARRIER ? "barrier" : "shuffle";
      snprintf(error, 256, "block %u, thread %d: waits for ever at the %s in line %d", block.x, i, what, current->line);
    }
  }
}

static void on_fault(int signal, siginfo_t *info, void *) {
  if (signal == SIGSEGV || signal == SIGBUS) fail("out-of-bounds access at %p", info->si_addr);
  fail("undefined behaviour: overflow, bad shift, index or conversion, division by zero");
}

static bool launch(int blocks, int block_threads, size_t shared_bytes, Order order, bool is_plain, char *message) {
  error = message;
  error[0] = 0;
  ++launches;
  threads = block_threads;
  block_extent = {(unsigned)threads, 1, 1};
  grid_extent = {(unsigned)blocks, 1, 1};
  const int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (!stacks) stacks = (unsigned char *)mmap(nullptr, MOST_THREADS * STACK_BYTES, protection, flags, -1, 0);
  if (!dynamic_end) {
    const size_t page = 4096, bytes = (MOST_DYNAMIC + page - 1) / page * page;
    unsigned char *start = (unsigned char *)mmap(nullptr, bytes + page, protection, flags, -1, 0);
    dynamic_end = start + bytes;
    mprotect(dynamic_end, page, PROT_NONE);
  }
  if (shared_bytes > MOST_DYNAMIC || threads > MOST_THREADS) {
    snprintf(error, 256, "%zu bytes of shared memory, %d threads: more than a block has", shared_bytes, threads);
    return false;
  }
  dynamic_bytes = shared_bytes;
  dynamic = dynamic_end - (shared_bytes + 15) / 16 * 16;
  const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  struct sigaction action = {}, before[4];
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (int i = 0; i < 4; ++i) sigaction(signals[i], &action, &before[i]);
  for (int i = 0; i < blocks && !*error; ++i) {
    block = {(unsigned)(order == DOWN ? blocks - 1 - i : i), 0, 0};
    is_plain ? run_block_plainly(order) : run_block(order);
  }
  for (int i = 0; i < 4; ++i) sigaction(signals[i], &before[i], nullptr);
  return !*error;
}

template <typename... A, size_t... I> void call_with(void (*function)(A...), void **values, std::index_sequence<I...>) {
  function(*(A *)values[I]...);
}
template <typename... A> void call_kernel(void *function, void **values) {
  call_with((void (*)(A...))function, values, std::index_sequence_for<A...>{});
}
template <typename... A> int count(void (*)(A...)) { return sizeof...(A); }
template <typename... A> int size(void (*)(A...), int number) {
  const int sizes[] = {(int)sizeof(A)..., 0};
  return sizes[number];
}
template <typename... A> auto caller(void (*)(A...)) { return &call_kernel<A...>; }

}  // namespace shim

// `launch_<name>(arguments, blocks, threads, shared_bytes, order, message)`; the arguments as cuLaunchKernel takes them.
#define SHIM_EXPORT(name, is_plain) \
  extern "C" int arguments_##name() { return shim::count(name); } \
  extern "C" int argument_bytes_##name(int number) { return shim::size(name, number); } \
  extern "C" bool launch_##name(void **values, int blocks, int threads, int shared_bytes, int order, char *message) { \
    shim::call = shim::caller(name); \
    shim::kernel = (void *)name; \
    shim::arguments = values; \
    return shim::launch(blocks, threads, shared_bytes, (shim::Order)order, is_plain, message); \
  }
