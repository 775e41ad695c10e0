// The primitives of device.cuh on the host, so that kernels can be tested without a GPU.
//
// The blocks of a grid run one after another. The threads of a block are fibers, which switch only at barriers
// and at warp-wide operations (ldmatrix, mma.sync, shuffles). A Launch fixes a schedule: the order in which
// fibers run, and when asynchronous copies arrive. A kernel whose result depends on the schedule has a race.
//
// The emulator finds
//   - a missing barrier: shared memory starts as NaN, and some schedule reads it too early;
//   - a wait that is too weak: lazy copies arrive at the wait, eager ones at once;
//   - a barrier that only some threads reach;
//   - misaligned access, at which UBSan traps;
//   - access outside a buffer: global buffers and shared memory end at an inaccessible page;
//   - bank conflicts of ldmatrix, which are counted.
// It does not reproduce how tensor cores round.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

struct alignas(16) uint4 {
    u32 x, y, z, w;
};

namespace emulate {

constexpr int MAX_THREADS = 1024;
constexpr size_t STACK = 64 * 1024;

// The same layout as `LaunchParams` in device/host.rs.
struct Launch {
    int grid[3];
    int threads;
    int shared_bytes;
    int order;  // 0: threads and blocks forward; 1: backward; otherwise the seed of a random order
    int eager;  // copies arrive when they are issued instead of when they are waited for
    int unused;
};

// One asynchronous copy of 16 bytes, or of zeros where it is not valid.
struct Copy {
    void* to;
    const void* from;
    bool valid;
};

enum State { READY, AT_BARRIER, IN_WARP, DONE };

// A thread of the block.
struct Fiber {
    void* stack_pointer = nullptr;
    State state = DONE;
    std::vector<std::vector<Copy>> groups;  // committed groups of copies that may still be under way
    std::vector<Copy> open;                 // copies since the last commit
    // Operands and results of this lane in a warp-wide operation.
    const void* row;
    float value;
    int mask;
    u32 matrices[4], a[4], b[2];
    float* d;
    int operation;
};

// The state of the block that runs.
struct Block {
    Launch launch;
    int index[3];
    int current;
    u8* shared;
    std::vector<Fiber> fibers;
    void* scheduler = nullptr;
    std::function<void()> body;
    char message[512];
    bool failed;
    u64 random;
    long conflicts;  // ldmatrix rows that hit a bank which another row of the same matrix uses
};

inline thread_local Block* block = nullptr;
// Where the signal handler continues after a fault of a kernel.
inline thread_local sigjmp_buf* fault_exit = nullptr;

// Saves the callee-saved registers on this stack, stores its pointer in *from, and continues on the stack `to`.
#if defined(__x86_64__)
asm(R"(
.text
.type emulate_switch, @function
emulate_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");
extern "C" void emulate_switch(void** from, void* to);
#else
#error "the emulator switches fibers with assembly for x86-64; this host has another architecture"
#endif

inline void switch_to_scheduler() {
    emulate_switch(&block->fibers[block->current].stack_pointer, block->scheduler);
}

// Reports a fault of the running thread and abandons the grid. Only the first message is kept.
[[noreturn]] inline void fail(const char* what) {
    if (!block->failed)
        snprintf(block->message, sizeof block->message, "%s (block %d %d %d, thread %d)", what,
                 block->index[0], block->index[1], block->index[2], block->current);
    block->failed = true;
    for (;;) switch_to_scheduler();
}

inline void fiber_main() {
    block->body();
    Fiber& self = block->fibers[block->current];
    self.state = DONE;
    if (!self.open.empty()) fail("a thread ended with asynchronous copies that it never committed");
    for (;;) switch_to_scheduler();
}

inline Fiber& self() { return block->fibers[block->current]; }

inline u32 next_random(u32 below) {
    block->random ^= block->random << 13;
    block->random ^= block->random >> 7;
    block->random ^= block->random << 17;
    return static_cast<u32>(block->random % below);
}

// Performs copies.
inline void complete(const std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
        if (copy.valid)
            memcpy(copy.to, copy.from, 16);
        else
            memset(copy.to, 0, 16);
    }
}

inline float half_to_float(u16 bits) {
    _Float16 v;
    memcpy(&v, &bits, 2);
    return v;
}

inline float bits_to_float(u32 bits) {
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

// Value `at` of a vector of words in the storage format.
inline float element(const u32* words, int at) {
#if defined(PRECISION_F32) || defined(PRECISION_TF32)
    return bits_to_float(words[at]);
#else
    u16 bits = static_cast<u16>(words[at / 2] >> (at % 2 * 16));
#if defined(PRECISION_F16)
    return half_to_float(bits);
#else
    return bits_to_float(static_cast<u32>(bits) << 16);
#endif
#endif
}

enum { MATRICES, MULTIPLY, SHUFFLE };

// ldmatrix.x4; counts bank conflicts. The eight rows of a matrix are 16 bytes each, and the banks of shared
// memory repeat every 128 bytes, so two rows conflict if their addresses are equal modulo 128.
inline void load_matrices_of(Fiber* warp) {
    for (int matrix = 0; matrix < 4; matrix++) {
        u32 banks = 0;
        for (int row = 0; row < 8; row++) {
            Fiber& source = warp[matrix * 8 + row];
            uintptr_t address = reinterpret_cast<uintptr_t>(source.row);
            if (address % 16) fail("ldmatrix: a row is not aligned to 16 bytes");
            u32 bank = 1u << (address / 16 % 8);
            block->conflicts += (banks & bank) != 0;
            banks |= bank;
            for (int column = 0; column < 4; column++)
                memcpy(&warp[row * 4 + column].matrices[matrix],
                       static_cast<const u8*>(source.row) + column * 4, 4);
        }
    }
}

// mma.sync with the fragment layouts of the PTX manual: m16n8k16 for 16-bit values, m16n8k8 for TF32. Sums in
// float32, in the order of k.
inline void multiply_of(Fiber* warp) {
    constexpr int PER_WORD = sizeof(u32) / sizeof(
#if defined(PRECISION_F32) || defined(PRECISION_TF32)
        u32
#else
        u16
#endif
    );
    constexpr int K = 8 * PER_WORD;
    float a[16][K], b[K][8];
    for (int lane = 0; lane < 32; lane++) {
        Fiber& f = warp[lane];
        for (int word = 0; word < 4; word++) {
            for (int i = 0; i < PER_WORD; i++) {
                int k = word / 2 * 4 * PER_WORD + lane % 4 * PER_WORD + i;
                a[lane / 4 + word % 2 * 8][k] = element(&f.a[word], i);
                if (word < 2) b[word * 4 * PER_WORD + lane % 4 * PER_WORD + i][lane / 4] = element(&f.b[word], i);
            }
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < 4; i++) {
            float sum = warp[lane].d[i];
            for (int k = 0; k < K; k++)
                sum += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
            warp[lane].d[i] = sum;
        }
    }
}

// shfl.sync.bfly.
inline void shuffle_of(Fiber* warp) {
    float values[32];
    for (int lane = 0; lane < 32; lane++) values[lane] = warp[lane].value;
    for (int lane = 0; lane < 32; lane++) warp[lane].value = values[lane ^ warp[lane].mask];
}

// A warp-wide operation: the last lane that arrives performs it for all lanes.
inline void run_by_warp(int operation) {
    Fiber& f = self();
    f.operation = operation;
    f.state = IN_WARP;
    int first = block->current / 32 * 32;
    Fiber* warp = &block->fibers[first];
    bool all = true;
    for (int lane = 0; lane < 32; lane++) {
        all = all && first + lane < block->launch.threads && warp[lane].state == IN_WARP;
        if (warp[lane].state == IN_WARP && warp[lane].operation != operation)
            fail("the lanes of a warp called different warp-wide operations");
    }
    if (all) {
        if (operation == MATRICES) load_matrices_of(warp);
        if (operation == MULTIPLY) multiply_of(warp);
        if (operation == SHUFFLE) shuffle_of(warp);
        for (int lane = 0; lane < 32; lane++) warp[lane].state = READY;
        if (block->launch.order < 2) return;
    }
    switch_to_scheduler();
}

// Runs a thread until it switches back.
inline void resume(int thread) {
    block->current = thread;
    emulate_switch(&block->scheduler, block->fibers[thread].stack_pointer);
}

// Runs threads first..last, a warp, until none is ready. Under a random order each runs once at most, so that
// other warps can run in between. Returns whether any thread ran.
inline bool run_warp(int first, int last) {
    bool any = false, again = true;
    while (again && !block->failed) {
        again = false;
        int count = last - first, start = block->launch.order < 2 ? 0 : static_cast<int>(next_random(count));
        for (int i = 0; i < count && !block->failed; i++) {
            int lane = (start + (block->launch.order == 1 ? count - 1 - i : i)) % count;
            if (block->fibers[first + lane].state != READY) continue;
            resume(first + lane);
            any = again = true;
        }
        if (block->launch.order >= 2) break;
    }
    return any;
}

// Runs all threads of a block. When all wait at the barrier, it opens; when nobody can run, that is a fault.
inline void run_fibers() {
    int threads = block->launch.threads, warps = (threads + 31) / 32;
    while (!block->failed) {
        bool any = false;
        int start = block->launch.order < 2 ? 0 : static_cast<int>(next_random(warps));
        for (int i = 0; i < warps && !block->failed; i++) {
            int warp = (start + (block->launch.order == 1 ? warps - 1 - i : i)) % warps;
            any |= run_warp(warp * 32, warp * 32 + 32 < threads ? warp * 32 + 32 : threads);
        }
        if (any || block->failed) continue;
        int done = 0, waiting = 0;
        for (const Fiber& f : block->fibers) {
            done += f.state == DONE;
            waiting += f.state == AT_BARRIER;
        }
        if (done == threads) return;
        const int* at = block->index;
        if (waiting && done) {
            snprintf(block->message, sizeof block->message,
                     "%d threads wait at a barrier that %d ended threads never reach (block %d %d %d)", waiting,
                     done, at[0], at[1], at[2]);
            block->failed = true;
            return;
        }
        if (waiting != threads) {
            snprintf(block->message, sizeof block->message,
                     "deadlock: lanes of a warp wait for others that wait elsewhere (block %d %d %d)", at[0],
                     at[1], at[2]);
            block->failed = true;
            return;
        }
        for (Fiber& f : block->fibers) f.state = READY;
    }
}

// Memory between two inaccessible pages. It ends, rounded up to 16 bytes, where the second of them starts.
struct Guarded {
    size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), inner = 0;
    u8 *base = nullptr, *data = nullptr;

    explicit Guarded(size_t bytes) {
        inner = (bytes + page - 1) / page * page;
        base = static_cast<u8*>(mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (base == MAP_FAILED || mprotect(base + page, inner ? inner : page, PROT_READ | PROT_WRITE)) abort();
        data = base + page + inner - (bytes + 15) / 16 * 16;
    }
    Guarded(const Guarded&) = delete;
    ~Guarded() { munmap(base, inner + 2 * page); }
};

inline struct sigaction previous[3];
inline const int SIGNALS[3] = {SIGSEGV, SIGBUS, SIGILL};

inline void on_signal(int signal, siginfo_t* info, void*) {
    if (fault_exit && block) {
        snprintf(block->message, sizeof block->message, "%s at %p (block %d %d %d, thread %d)",
                 signal == SIGILL ? "misaligned access or undefined behaviour" : "access outside of a buffer",
                 info->si_addr, block->index[0], block->index[1], block->index[2], block->current);
        siglongjmp(*fault_exit, 1);
    }
    // The fault is not a kernel's. Restore the previous handler; the instruction then faults again.
    for (int i = 0; i < 3; i++)
        if (SIGNALS[i] == signal) sigaction(signal, &previous[i], nullptr);
}

inline void install_signal_handlers() {
    static const bool done = [] {
        for (int i = 0; i < 3; i++) {
            struct sigaction action = {};
            action.sa_sigaction = on_signal;
            action.sa_flags = SA_SIGINFO | SA_NODEFER;
            sigaction(SIGNALS[i], &action, &previous[i]);
        }
        return true;
    }();
    (void)done;
}

inline void run_block(u8* stacks) {
    Block& b = *block;
    memset(b.shared, 0xff, static_cast<size_t>(b.launch.shared_bytes));
    for (int thread = 0; thread < b.launch.threads; thread++) {
        Fiber& f = b.fibers[thread];
        f.state = READY;
        f.groups.clear();
        f.open.clear();
        // The stack as emulate_switch expects it: six registers and a return address, aligned as after a call.
        void** top = reinterpret_cast<void**>(stacks + (thread + 1) * STACK) - 1;
        *--top = reinterpret_cast<void*>(fiber_main);
        for (int i = 0; i < 6; i++) *--top = nullptr;
        f.stack_pointer = top;
    }
    run_fibers();
}

// Runs a grid. Returns null, or the message of the first fault, which is valid until this thread's next call.
inline const char* run(const Launch& launch, const std::function<void()>& body, long* conflicts) {
    static thread_local char message[512];
    static thread_local std::vector<u8> stacks;
    install_signal_handlers();
    stacks.resize(STACK * static_cast<size_t>(launch.threads));
    Guarded shared(static_cast<size_t>(launch.shared_bytes));
    auto* b = new Block();
    b->launch = launch;
    b->shared = shared.data;
    b->fibers.resize(static_cast<size_t>(launch.threads));
    b->body = body;
    b->random = 0x9e3779b97f4a7c15ull * static_cast<u64>(launch.order + 1) | 1;
    block = b;
    sigjmp_buf out;
    if (sigsetjmp(out, 1) == 0) {
        fault_exit = &out;
        long blocks = static_cast<long>(launch.grid[0]) * launch.grid[1] * launch.grid[2];
        for (long i = 0; i < blocks && !b->failed; i++) {
            long at = launch.order == 1 ? blocks - 1 - i : i;
            b->index[0] = static_cast<int>(at % launch.grid[0]);
            b->index[1] = static_cast<int>(at / launch.grid[0] % launch.grid[1]);
            b->index[2] = static_cast<int>(at / launch.grid[0] / launch.grid[1]);
            run_block(stacks.data());
        }
    } else {
        b->failed = true;
    }
    fault_exit = nullptr;
    block = nullptr;
    *conflicts = b->conflicts;
    bool failed = b->failed;
    memcpy(message, b->message, sizeof message);
    delete b;
    return failed ? message : nullptr;
}

}  // namespace emulate

#define KERNEL(name, Args, count)                                                                           \
    static_assert(sizeof(Args) == ARGS_BYTES, "the argument struct differs in size from the Rust side");    \
    static void kernel_body(const Args& args);                                                              \
    extern "C" const char* emulate_launch(const emulate::Launch* launch, const void* args, long* conflicts) {\
        if (launch->threads != (count)) return "the launch has another number of threads than the kernel";  \
        Args copy;                                                                                          \
        memcpy(&copy, args, sizeof copy);                                                                   \
        return emulate::run(*launch, [&] { kernel_body(copy); }, conflicts);                                \
    }                                                                                                       \
    static void kernel_body(const Args& args)

static inline int thread_index() { return emulate::block->current; }
static inline int block_x() { return emulate::block->index[0]; }
static inline int block_y() { return emulate::block->index[1]; }
static inline int block_z() { return emulate::block->index[2]; }

static inline void sync_threads() {
    emulate::self().state = emulate::AT_BARRIER;
    emulate::switch_to_scheduler();
}

static inline float shuffle_xor(float v, int mask) {
    emulate::Fiber& f = emulate::self();
    f.value = v;
    f.mask = mask;
    emulate::run_by_warp(emulate::SHUFFLE);
    return f.value;
}

static inline float add(float a, float b) { return a + b; }
static inline float mul(float a, float b) { return a * b; }
static inline float fma_(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float divide(float a, float b) { return a / b; }
static inline float exponential(float v) { return std::exp(v); }

static inline u8* shared_memory() { return emulate::block->shared; }

static inline void copy_async(void* to, const void* from, bool valid) {
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)
        emulate::fail("cp.async: an address is not aligned to 16 bytes");
    emulate::self().open.push_back({to, from, valid});
    if (emulate::block->launch.eager) emulate::complete({{to, from, valid}});
}

static inline void commit() {
    emulate::Fiber& f = emulate::self();
    f.groups.push_back(std::move(f.open));
    f.open.clear();
}

template <int GROUPS>
static inline void wait() {
    emulate::Fiber& f = emulate::self();
    while (f.groups.size() > GROUPS) {
        if (!emulate::block->launch.eager) emulate::complete(f.groups.front());
        f.groups.erase(f.groups.begin());
    }
}

static inline void load_matrices(u32 (&r)[4], const void* row) {
    emulate::Fiber& f = emulate::self();
    f.row = row;
    emulate::run_by_warp(emulate::MATRICES);
    memcpy(r, f.matrices, sizeof r);
}

static inline void multiply_matrices(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emulate::Fiber& f = emulate::self();
    memcpy(f.a, a, sizeof a);
    f.b[0] = b0;
    f.b[1] = b1;
    f.d = d;
    emulate::run_by_warp(emulate::MULTIPLY);
}

// To nearest, ties away from zero, as cvt.rna.tf32 does.
static inline u32 round_tf32(u32 bits) {
#if defined(PRECISION_TF32)
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
#else
    return bits;
#endif
}

static inline float float_of(u32 bits) { return emulate::bits_to_float(bits); }

static inline u16 round_16(float v) {
#if defined(PRECISION_F16)
    _Float16 half = static_cast<_Float16>(v);
    u16 bits;
    memcpy(&bits, &half, 2);
    return bits;
#else
    u32 bits;
    memcpy(&bits, &v, 4);
    if (v != v) return 0x7fff;
    return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

static inline float widen_f16(u16 bits) { return emulate::half_to_float(bits); }
