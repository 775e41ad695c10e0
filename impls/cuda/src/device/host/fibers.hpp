// Runs a grid on the host: one block after another, each with a fiber for every thread. The blocks of a cluster take
// turns: each runs until all of its threads wait for the cluster.
//
// Fibers switch only at barriers and at warp-wide operations (warp.hpp). A Launch fixes a schedule: the order
// in which fibers run, and when asynchronous copies arrive. A kernel whose result depends on the schedule has
// a race.
#pragma once
#include "emulate.hpp"

#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace emulate {

constexpr int MAX_THREADS = 1024;
constexpr size_t STACK = 64 * 1024;

// Blocks of a cluster that every GPU with clusters can run.
constexpr int MAX_CLUSTER = 8;

// One asynchronous copy of 16 bytes, or of zeros where it is not valid.
struct Copy {
    void* to;
    const void* from;
    bool valid;
};

// A box of a tensor on its way from shared memory (hopper.hpp).
struct Tensor;
struct BoxStore {
    const Tensor* tensor;
    const u8* from;
    int at[4];
};

enum State { READY, AT_BARRIER, AT_CLUSTER, AT_NAMED, AT_PHASE, IN_WARP, DONE };

// Threads that wait for each other at an operation of a warp or warpgroup.
struct Meeting {
    int arrived, operation;
    u64 key[2];
};

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
    Meeting warp, warpgroup;  // of which this thread is the first
    // For hopper.hpp: what this thread waits for, its stores under way, the chunks of 16 bytes of shared memory that
    // it stored since its last fence, and the registers that it has.
    void* barrier;
    int parity, named, named_count;
    std::vector<BoxStore> stores;
    std::vector<size_t> stored;
    int registers = 0;
    bool waited = false;  // for earlier kernels
};

// The threads of the block that runs.
struct Fibers {
    Fiber* begin() const { return block->fibers; }
    Fiber* end() const { return block->fibers + grid->launch.threads; }
};

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
    if (!grid->failed)
        snprintf(grid->message, sizeof grid->message, "%s (block %d %d %d, thread %d)", what,
                 block->index[0], block->index[1], block->index[2], block->current);
    grid->failed = true;
    for (;;) switch_to_scheduler();
}

// Reports a fault that is no thread's.
inline void fail_block(const char* what) {
    snprintf(grid->message, sizeof grid->message, "%s (block %d %d %d)", what, block->index[0], block->index[1],
             block->index[2]);
    grid->failed = true;
}

inline void fiber_main() {
    grid->body(grid->args);
    Fiber& self = block->fibers[block->current];
    self.state = DONE;
    if (!self.waited) fail("a thread ended without a wait for earlier kernels");
    if (!self.open.empty()) fail("a thread ended with asynchronous copies that it never committed");
    for (;;) switch_to_scheduler();
}

inline Fiber& self() { return block->fibers[block->current]; }

inline u32 next_random(u32 below) {
    grid->random ^= grid->random << 13;
    grid->random ^= grid->random >> 7;
    grid->random ^= grid->random << 17;
    return static_cast<u32>(grid->random % below);
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
    while (again && !grid->failed) {
        again = false;
        int count = last - first, start = grid->launch.order < 2 ? 0 : static_cast<int>(next_random(count));
        for (int i = 0; i < count && !grid->failed; i++) {
            int lane = (start + (grid->launch.order == 1 ? count - 1 - i : i)) % count;
            if (block->fibers[first + lane].state != READY) continue;
            resume(first + lane);
            any = again = true;
        }
        if (grid->launch.order >= 2) break;
    }
    return any;
}

// The part of the scheduler that kernels for Hopper need (hopper.hpp). The first three return whether they changed
// anything.
inline bool wake_waiting();
inline bool open_named();
inline bool land_one();
inline void reset_hopper();
inline const char* check_end();
inline void describe_waits(char* to, size_t size);

// Runs all threads of a block until they have ended or wait for the cluster. When all wait at the barrier, it
// opens; when nobody can run, that is a fault.
inline void run_fibers() {
    int threads = grid->launch.threads, warps = (threads + 31) / 32;
    while (!grid->failed) {
        bool any = false;
        int start = grid->launch.order < 2 ? 0 : static_cast<int>(next_random(warps));
        for (int i = 0; i < warps && !grid->failed; i++) {
            int warp = (start + (grid->launch.order == 1 ? warps - 1 - i : i)) % warps;
            any |= run_warp(warp * 32, warp * 32 + 32 < threads ? warp * 32 + 32 : threads);
        }
        if (grid->failed) continue;
        // Under a random order boxes land, and threads wake, while others run.
        if (any && grid->launch.order >= 2 && next_random(2)) land_one();
        if (any && grid->launch.order >= 2) wake_waiting();
        if (any || wake_waiting() || open_named() || land_one()) continue;
        int done = 0, waiting = 0, clustered = 0;
        for (const Fiber& f : Fibers()) {
            done += f.state == DONE;
            waiting += f.state == AT_BARRIER;
            clustered += f.state == AT_CLUSTER;
        }
        if (clustered == threads) return;
        if (done == threads) {
            if (const char* fault = check_end()) fail_block(fault);
            return;
        }
        const int* at = block->index;
        if (waiting && done) {
            snprintf(grid->message, sizeof grid->message,
                     "%d threads wait at a barrier that %d ended threads never reach (block %d %d %d)", waiting,
                     done, at[0], at[1], at[2]);
            grid->failed = true;
            return;
        }
        if (waiting != threads) {
            int written = snprintf(grid->message, sizeof grid->message,
                                   "deadlock: threads wait for others that wait elsewhere (block %d %d %d)", at[0],
                                   at[1], at[2]);
            describe_waits(grid->message + written, sizeof grid->message - static_cast<size_t>(written));
            grid->failed = true;
            return;
        }
        for (Fiber& f : Fibers()) f.state = READY;
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

constexpr const char* TOO_EARLY = "access to memory without a wait for earlier kernels";

// Whether an address lies in memory that is still inaccessible.
inline bool too_early(const void* address) {
    for (int i = 0; i < grid->launch.memories && !grid->open; i++) {
        const Memory& memory = grid->launch.memory[i];
        if (reinterpret_cast<u64>(address) - reinterpret_cast<u64>(memory.first) < memory.bytes) return true;
    }
    return false;
}

// What a signal says of the kernel that runs.
inline const char* meaning(int signal, const void* address) {
    if (signal == SIGILL) return "misaligned access or undefined behaviour";
    return too_early(address) ? TOO_EARLY : "access outside of a buffer, or write to a constant,";
}

inline struct sigaction previous[3];
inline const int SIGNALS[3] = {SIGSEGV, SIGBUS, SIGILL};

inline void on_signal(int signal, siginfo_t* info, void*) {
    if (fault_exit && block) {
        snprintf(grid->message, sizeof grid->message, "%s at %p (block %d %d %d, thread %d)",
                 meaning(signal, info->si_addr), info->si_addr, block->index[0], block->index[1], block->index[2],
                 block->current);
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

// Prepares the block that runs; its threads start when they are resumed.
inline void start_block(u8* stacks) {
    memset(block->shared, 0xff, static_cast<size_t>(grid->launch.shared_bytes));
    reset_hopper();
    for (int thread = 0; thread < grid->launch.threads; thread++) {
        Fiber& f = block->fibers[thread];
        f.state = READY;
        f.groups.clear();
        f.open.clear();
        f.stores.clear();
        f.stored.clear();
        f.registers = 0;
        f.waited = false;
        f.warp.arrived = f.warpgroup.arrived = 0;
        // The stack as emulate_switch expects it: six registers and a return address, aligned as after a call.
        void** top = reinterpret_cast<void**>(stacks + (thread + 1) * STACK) - 1;
        *--top = reinterpret_cast<void*>(fiber_main);
        for (int i = 0; i < 6; i++) *--top = nullptr;
        f.stack_pointer = top;
    }
}

inline bool has_ended(const Block& b) {
    for (int i = 0; i < grid->launch.threads; i++)
        if (b.fibers[i].state != DONE) return false;
    return true;
}

// Runs the blocks of a cluster to their ends.
inline void run_cluster(std::vector<Block>& blocks) {
    size_t count = blocks.size();
    for (;;) {
        size_t start = grid->launch.order < 2 ? 0 : next_random(static_cast<u32>(count)), ended = 0;
        for (size_t i = 0; i < count; i++) {
            block = &blocks[(start + (grid->launch.order == 1 ? count - 1 - i : i)) % count];
            run_fibers();
            if (grid->failed) return;
            ended += has_ended(*block);
        }
        if (ended == count) return;
        if (ended) return fail_block("a block waits for its cluster, of which another block has ended");
        for (Block& b : blocks)
            for (int i = 0; i < grid->launch.threads; i++) b.fibers[i].state = READY;
    }
}

// Makes the memory of the device accessible, or inaccessible.
inline void open_memory(bool open) {
    grid->open = open;
    for (int i = 0; i < grid->launch.memories; i++) {
        const Memory& memory = grid->launch.memory[i];
        if (mprotect(memory.first, memory.bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE)) abort();
    }
}

// Runs a grid. Returns null, or the message of the first fault, which is valid until this thread's next call.
const char* run(const Launch& launch, Storage storage, void (*body)(const void*), const void* args, long* conflicts) {
    static thread_local char message[512];
    static thread_local std::vector<u8> stacks;
    int count = launch.cluster;
    if (count < 1 || count > MAX_CLUSTER || launch.grid[2] % count) return "the grid is not a number of clusters";
    install_signal_handlers();
    size_t threads = static_cast<size_t>(launch.threads), each = STACK * threads;
    stacks.resize(each * static_cast<size_t>(count));
    std::deque<Guarded> shared;
    std::vector<std::vector<Fiber>> fibers;
    for (int rank = 0; rank < count; rank++) {
        shared.emplace_back(static_cast<size_t>(launch.shared_bytes));
        fibers.emplace_back(threads);
    }
    auto* g = new Grid();
    g->launch = launch;
    g->storage = storage;
    g->body = body;
    g->args = args;
    g->random = 0x9e3779b97f4a7c15ull * static_cast<u64>(launch.order + 1) | 1;
    grid = g;
    std::vector<Block> blocks(static_cast<size_t>(count));
    sigjmp_buf out;
    if (sigsetjmp(out, 1) == 0) {
        fault_exit = &out;
        open_memory(false);
        int layers = launch.grid[2] / count;
        long clusters = static_cast<long>(launch.grid[0]) * launch.grid[1] * layers;
        for (long i = 0; i < clusters && !g->failed; i++) {
            long at = launch.order == 1 ? clusters - 1 - i : i, layer = at / launch.grid[0] / launch.grid[1];
            for (int rank = 0; rank < count; rank++) {
                auto r = static_cast<size_t>(rank);
                block = &blocks[r];
                *block = {{static_cast<int>(at % launch.grid[0]),
                           static_cast<int>(at / launch.grid[0] % launch.grid[1]),
                           static_cast<int>(layer) * count + rank},
                          0, shared[r].data, fibers[r].data(), nullptr, blocks.data(), rank};
                start_block(stacks.data() + each * r);
            }
            run_cluster(blocks);
        }
    } else {
        g->failed = true;
    }
    if (!g->open) open_memory(true);
    fault_exit = nullptr;
    block = nullptr;
    grid = nullptr;
    *conflicts = g->conflicts;
    bool failed = g->failed;
    memcpy(message, g->message, sizeof message);
    delete g;
    return failed ? message : nullptr;
}

}  // namespace emulate
