// What device.cuh and hopper.cuh need on the host, so that kernels can be tested without a GPU. Declared here, and
// defined in the files that emulator.cpp includes. Those are compiled once, and this file with every kernel, so that
// it includes nothing: fibers.hpp runs the threads, warp.hpp what the lanes of a warp do together, hopper.hpp what
// only sm_90a has.
//
// The emulator finds
//   - a missing barrier: shared memory starts as NaN, and some schedule reads it too early;
//   - a wait that is too weak: lazy copies arrive at the wait, eager ones at once;
//   - a barrier that only some threads reach;
//   - misaligned access, at which UBSan traps;
//   - access outside a buffer: global buffers and shared memory end at an inaccessible page;
//   - access to memory before earlier kernels have ended: there is none until all threads of the first block have
//     waited for them;
//   - shared memory of another block of a cluster that is read too early, or after that block has ended;
//   - bank conflicts of ldmatrix, which are counted.
// It does not reproduce how tensor cores round.
#pragma once

struct alignas(16) uint4 {
    u32 x, y, z, w;
};

// A CUtensorMap. What it holds here stands in hopper.hpp.
struct alignas(64) TensorMap {
    u64 words[16];
};

namespace emulate {

// The same layout as `LaunchParams` in mod.rs.
struct Launch {
    int grid[3];
    int cluster;  // blocks of a cluster, which are neighbours along z
    int threads;
    int shared_bytes;
    int order;  // 0: threads and blocks forward; 1: backward; otherwise the seed of a random order
    int eager;  // copies arrive when they are issued instead of when they are waited for
    int memories;  // all memory of the device but constants, of which no kernel may read before it has waited for
                   // earlier kernels
    const struct Memory* memory;
};

// Whole pages of the device's memory.
struct Memory {
    void* first;
    u64 bytes;
};

// How numbers are stored that are multiplied as matrices.
enum Storage { WORDS, BF16, F16 };
#if defined(PRECISION_BF16)
constexpr Storage STORAGE = BF16;
#elif defined(PRECISION_F16)
constexpr Storage STORAGE = F16;
#else
constexpr Storage STORAGE = WORDS;
#endif

// A thread (fibers.hpp).
struct Fiber;

// What the blocks of a grid share.
struct Grid {
    Launch launch;
    Storage storage;
    void (*body)(const void*);
    const void* args;
    char message[512];
    bool failed;
    bool open;   // whether earlier kernels have ended, so that the memory of the device is accessible
    int waited;  // threads of the first block that wait for that
    u64 random;
    long conflicts;  // ldmatrix rows that hit a bank which another row of the same matrix uses
};

// A block that runs.
struct Block {
    int index[3];
    int current;
    u8* shared;
    Fiber* fibers;
    void* scheduler;
    Block* cluster;  // the first block of its cluster
    int rank;        // its number there
};

inline thread_local Grid* grid = nullptr;
inline thread_local Block* block = nullptr;

// Runs a grid. Returns null, or the message of the first fault, which is valid until this thread's next call.
const char* run(const Launch& launch, Storage storage, void (*body)(const void*), const void* args, long* conflicts);

void wait_copies(int groups);
void start_product(u64 a, u64 b, bool accumulate, int columns, float* d);
void wait_products(int left);
void store_matrices(void* line, const u32 (&r)[4], bool transposed);
void load_matrices(u32 (&r)[4], const void* line, bool transposed);
void set_registers(int count);
void named_barrier(int id, int count);

}  // namespace emulate

#define KERNEL(name, Args, count)                                                                           \
    static_assert(sizeof(Args) == ARGS_BYTES, "the argument struct differs in size from the Rust side");    \
    using KernelArgs = Args;                                                                                \
    static void kernel_body(const Args& args);                                                              \
    extern "C" const char* emulate_launch(const emulate::Launch* launch, const void* args, long* conflicts) {\
        if (launch->threads != (count)) return "the launch has another number of threads than the kernel";  \
        Args copy;                                                                                          \
        __builtin_memcpy(&copy, args, sizeof copy);                                                         \
        auto body = [](const void* args) { kernel_body(*static_cast<const Args*>(args)); };                 \
        return emulate::run(*launch, emulate::STORAGE, body, &copy, conflicts);                             \
    }                                                                                                       \
    static void kernel_body(const Args& args)

static inline int thread_index() { return emulate::block->current; }
static inline int warp_index() { return emulate::block->current / 32; }
static inline int block_x() { return emulate::block->index[0]; }
static inline int block_y() { return emulate::block->index[1]; }
static inline int block_z() { return emulate::block->index[2]; }
static inline int blocks_x() { return emulate::grid->launch.grid[0]; }

void wait_for_earlier_kernels();
void sync_threads();
void sync_cluster();
uint4 read_peer(const void* own, int rank);
float shuffle_xor(float v, int mask);
static inline void sync_warp() { shuffle_xor(0.0f, 0); }

static inline float add(float a, float b) { return a + b; }
static inline float mul(float a, float b) { return a * b; }
static inline float fma_(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float divide(float a, float b) { return a / b; }
float exponential(float v);
u32 sigmoid_halves(float low, float high);

static inline u8* shared_memory() { return emulate::block->shared; }
static inline u32 shared_address(const void* p) {
    return static_cast<u32>(static_cast<const u8*>(p) - emulate::block->shared);
}

static inline const void* offset_16(const void* base, int offset) {
    return static_cast<const u8*>(base) + static_cast<i64>(offset) * 16;
}

// Reads, so that an address outside of a buffer is noticed.
static inline void prefetch(const void* from) { (void)*static_cast<const volatile u8*>(from); }

void copy_async(void* to, const void* from, bool valid);
void commit();
template <int GROUPS>
static inline void wait() {
    emulate::wait_copies(GROUPS);
}

void store_shared(void* to, const uint4& v, bool valid);
static inline void store_global(void* to, const uint4& v, bool valid) {
    if (valid) *static_cast<uint4*>(to) = v;
}

void load_matrices(u32 (&r)[4], const void* row);
void multiply_matrices(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1);

// To nearest, ties away from zero, as cvt.rna.tf32 does.
static inline u32 round_tf32(u32 bits) {
#if defined(PRECISION_TF32)
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
#else
    return bits;
#endif
}

static inline float float_of(u32 bits) {
    float v;
    __builtin_memcpy(&v, &bits, 4);
    return v;
}

static inline u16 round_16(float v) {
#if defined(PRECISION_F16)
    _Float16 half = static_cast<_Float16>(v);
    u16 bits;
    __builtin_memcpy(&bits, &half, 2);
    return bits;
#else
    u32 bits;
    __builtin_memcpy(&bits, &v, 4);
    if (v != v) return 0x7fff;
    return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

static inline float widen_f16(u16 bits) {
    _Float16 v;
    __builtin_memcpy(&v, &bits, 2);
    return v;
}

static inline u32 round_pair(float low, float high) {
    return round_16(low) | static_cast<u32>(round_16(high)) << 16;
}

// The primitives of hopper.cuh.

void barrier_init(u64* memory, int count);
static inline void barrier_init_fence() {}
void barrier_arrive(u64* memory);
void barrier_expect(u64* memory, int bytes);
void barrier_wait(u64* memory, int parity);
void load_box(void* to, const TensorMap* map, int channel, int x, int y, int image, u64* barrier);
void store_box(const TensorMap* map, int channel, int x, int y, int image, const void* from);
static inline void store_box_commit() {}
void store_box_wait();
void fence_for_async();

void products_fence();
template <int WIDTH>
static inline void start_product(float (&d)[WIDTH / 2], u64 a, u64 b, bool accumulate) {
    emulate::start_product(a, b, accumulate, WIDTH, d);
}
void commit_products();
template <int LEFT, int BLOCKS, int COUNT>
static inline void wait_products(float (&)[BLOCKS][COUNT]) {
    emulate::wait_products(LEFT);
}

static inline u8* opaque(u8* p) { return p; }

template <int COUNT>
static inline void give_registers() {
    emulate::set_registers(COUNT);
}
template <int COUNT>
static inline void take_registers() {
    emulate::set_registers(COUNT);
}

template <int ID, int COUNT>
static inline void named_barrier() {
    emulate::named_barrier(ID, COUNT);
}

template <bool TRANSPOSED>
static inline void store_matrices(void* line, const u32 (&r)[4]) {
    emulate::store_matrices(line, r, TRANSPOSED);
}
template <bool TRANSPOSED>
static inline void load_matrices(u32 (&r)[4], const void* line) {
    emulate::load_matrices(r, line, TRANSPOSED);
}
