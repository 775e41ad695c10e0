// The primitives of device.cuh on the host, so that kernels can be tested without a GPU. fibers.hpp runs the
// threads, warp.hpp what the lanes of a warp do together.
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
#include "hopper.hpp"

struct alignas(16) uint4 {
    u32 x, y, z, w;
};

#define KERNEL(name, Args, count)                                                                           \
    static_assert(sizeof(Args) == ARGS_BYTES, "the argument struct differs in size from the Rust side");    \
    using KernelArgs = Args;                                                                                \
    static void kernel_body(const Args& args);                                                              \
    extern "C" const char* emulate_launch(const emulate::Launch* launch, const void* args, long* conflicts) {\
        if (launch->threads != (count)) return "the launch has another number of threads than the kernel";  \
        Args copy;                                                                                          \
        memcpy(&copy, args, sizeof copy);                                                                   \
        return emulate::run(*launch, [&] { kernel_body(copy); }, conflicts);                                \
    }                                                                                                       \
    static void kernel_body(const Args& args)

static inline int thread_index() { return emulate::block->current; }
static inline int warp_index() { return emulate::block->current / 32; }
static inline int block_x() { return emulate::block->index[0]; }
static inline int block_y() { return emulate::block->index[1]; }
static inline int block_z() { return emulate::block->index[2]; }
static inline int blocks_x() { return emulate::block->launch.grid[0]; }

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

// Two sigmoids, rounded to half precision at each step, as hopper.cuh describes.
static inline u32 sigmoid_halves(float low, float high) {
    u32 out = 0;
    for (int i = 0; i < 2; i++) {
        auto half = static_cast<_Float16>(static_cast<_Float16>(i ? high : low) * static_cast<_Float16>(0.5f));
        auto tanh = static_cast<_Float16>(std::tanh(static_cast<float>(half)));
        auto result = static_cast<_Float16>(static_cast<float>(tanh) * 0.5f + 0.5f);
        u16 bits;
        memcpy(&bits, &result, 2);
        out |= static_cast<u32>(bits) << (16 * i);
    }
    return out;
}

static inline u8* shared_memory() { return emulate::block->shared; }

static inline const void* offset_16(const void* base, int offset) {
    return static_cast<const u8*>(base) + static_cast<i64>(offset) * 16;
}

// Reads, so that an address outside of a buffer is noticed.
static inline void prefetch(const void* from) { (void)*static_cast<const volatile u8*>(from); }

static inline void copy_async(void* to, const void* from, bool valid) {
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)
        emulate::fail("cp.async: an address is not aligned to 16 bytes");
    emulate::self().open.push_back({to, from, valid});
    if (emulate::block->launch.eager) emulate::complete({{to, from, valid}});
}

static inline void store_shared(void* to, const uint4& v, bool valid) {
    if (valid) *static_cast<uint4*>(to) = v;
}

static inline void store_global(void* to, const uint4& v, bool valid) { store_shared(to, v, valid); }

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

static inline u32 round_pair(float low, float high) {
    return round_16(low) | static_cast<u32>(round_16(high)) << 16;
}
