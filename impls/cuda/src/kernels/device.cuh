// The primitives that the kernels are written in; those of Hopper are in hopper.cuh. Only these two files hold
// inline PTX. With EMULATE defined, the same names are implemented on the host (device/host/), so that every
// kernel runs where there is no GPU.
//
// Definitions that the compiler is given (Variant::defines in mod.rs):
//   PRECISION_F32, _TF32, _BF16 or _F16   how numbers are stored and multiplied; sums are always float32
//   ARGS_BYTES                            size of the argument struct on the Rust side
//   SHARED_BYTES                          dynamic shared memory of a block
//   RESIDENT                              blocks for which the registers of a multiprocessor must suffice
//   BM, BN, WARPS_M, WARPS_N, SLOTS       the tile, for kernels that include loader.cuh
//   GATED                                 whether a source has a gate (loader.cuh), or may have one (bands.cuh)
//   COLUMNS, OUTPUT_GROUPS, NARROW        for kernels that include bands.cuh
//   SUMS, ADDEND, HALVED                  for hopper_conv.cu; SUMS for hopper_stem.cu, too
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifdef EMULATE
#include "emulate.hpp"
#define DEVICE static inline
#define DEVICE_MEMBER inline
#define UNROLL
#define ROLLED
#else
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

// Defines a kernel with one argument, a struct in constant memory that Rust fills (the `.rs` file of the same
// name).
#define KERNEL(name, Args, threads)                                \
    static_assert(sizeof(Args) == ARGS_BYTES, "the argument struct differs in size from the Rust side");   \
    extern "C" __global__ void __launch_bounds__(threads, RESIDENT) \
        name(const __grid_constant__ Args args)

DEVICE int thread_index() { return threadIdx.x; }
// The number of the warp, so that the compiler knows it to be the same in all lanes.
DEVICE int warp_index() { return __shfl_sync(0xffffffffu, threadIdx.x / 32, 0); }
DEVICE int block_x() { return blockIdx.x; }
DEVICE int block_y() { return blockIdx.y; }
DEVICE int block_z() { return blockIdx.z; }
DEVICE int blocks_x() { return gridDim.x; }
DEVICE void sync_threads() { __syncthreads(); }
// The threads of a warp meet.
DEVICE void sync_warp() { __syncwarp(); }

// Lets the next kernel of the stream start, and waits until all earlier ones have ended and their results are in
// memory. Every thread must call it, before it touches memory that a kernel writes, or has read. What stands before
// it, such as a table in shared memory or loads of constants (Device::freeze), runs while the earlier kernel still does.
DEVICE void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The blocks of a cluster meet. What each of them stored in its shared memory is then visible to the others
// (read_peer). No block may end while another reads its memory. Clusters exist from sm_90 on.
DEVICE void sync_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// Arithmetic that no compiler contracts or reorders, so that fused and separate kernels give the same bits.
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float fma_(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
DEVICE float exponential(float v) { return expf(v); }

// Start of the block's dynamic shared memory, SHARED_BYTES long.
DEVICE u8* shared_memory() {
    extern __shared__ __align__(1024) u8 memory[];
    return memory;
}

// The 32-bit address in shared memory that PTX instructions take.
DEVICE u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

// Reads 16 bytes of the block `rank` of this cluster, from the place that `own` has in the memory of this block.
DEVICE uint4 read_peer(const void* own, int rank) {
    uint4 v = {};
#if __CUDA_ARCH__ >= 900
    u32 at;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_address(own)), "r"(rank));
    asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(at)
                 : "memory");
#endif
    return v;
}

// Address of 16 bytes, `offset` times 16 bytes from a base: one instruction and no registers for the sign.
DEVICE const void* offset_16(const void* base, int offset) {
    const void* at;
    asm("mad.wide.s32 %0, %1, 16, %2;" : "=l"(at) : "r"(offset), "l"(base));
    return at;
}

// Asks for 32 bytes of global memory in the L2 cache. It changes no result.
DEVICE void prefetch(const void* from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }

// Starts a copy of 16 bytes into shared memory, or of zeros where `valid` is false. Both addresses must be
// aligned to 16 bytes. This thread sees the bytes after `wait`, other threads after `wait` and a barrier.
// Before sm_80 the copy is synchronous.
DEVICE void copy_async(void* to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
#else
    *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#endif
}

// Stores 16 bytes to shared or global memory if `valid`. What is stored is computed in any case, without a
// branch, so that the loads behind it need not wait for each other.
DEVICE void store_shared(void* to, const uint4& v, bool valid) {
    asm volatile(
        "{ .reg .pred p; setp.ne.u32 p, %5, 0; @p st.shared.v4.u32 [%0], {%1, %2, %3, %4}; }"
        ::"r"(shared_address(to)), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(valid ? 1 : 0)
        : "memory");
}
DEVICE void store_global(void* to, const uint4& v, bool valid) {
    asm volatile(
        "{ .reg .pred p; setp.ne.u32 p, %5, 0; @p st.global.v4.u32 [%0], {%1, %2, %3, %4}; }"
        ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(valid ? 1 : 0)
        : "memory");
}

// Ends a group of copies: those since the last commit.
DEVICE void commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most GROUPS committed groups of this thread are still under way.
template <int GROUPS>
DEVICE void wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}

// Reads four matrices of 8 rows of 16 bytes, which are 8x8 values of 16 bits or 8x4 of 32 bits. Lane l passes
// the address of row l % 8 of matrix l / 8, and receives the 32-bit word l % 4 of row l / 4 of each matrix.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// d += a * b for a of 16 rows and b of 8 columns, over 32 bytes of K: 16 half-precision or 8 TF32 values.
DEVICE void multiply_matrices(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if defined(PRECISION_BF16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif defined(PRECISION_F16) && __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif defined(PRECISION_F16)
    for (int half = 0; half < 2; half++)
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(half ? b1 : b0));
#elif defined(PRECISION_TF32)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Rounds a float32 to the 10 fraction bits of TF32, to nearest, ties away from zero. Does nothing in other
// precisions.
DEVICE u32 round_tf32(u32 bits) {
    u32 out = bits;
#if defined(PRECISION_TF32)
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(out) : "f"(__uint_as_float(bits)));
#endif
    return out;
}

DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }

// Rounds to the 16-bit storage format, to nearest even.
DEVICE u16 round_16(float v) {
    u16 bits;
#if defined(PRECISION_F16)
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#elif defined(PRECISION_BF16)
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
    bits = 0;
#endif
    return bits;
}

// Two sigmoids in half precision, the low one first: 1/2 + 1/2 tanh(v / 2), where v / 2, tanh and the result are
// rounded to half precision. The error is at most 5e-4 by the bound that NVIDIA gives for tanh.approx; a
// rounding to bfloat16 is off by up to 2e-3.
DEVICE u32 sigmoid_halves(float low, float high) {
    u32 v;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
#else
    asm("{\n.reg .b16 l, h;\ncvt.rn.f16.f32 l, %2;\ncvt.rn.f16.f32 h, %1;\nmov.b32 %0, {l, h};\n}"
        : "=r"(v)
        : "f"(high), "f"(low));
#endif
    asm("{\n.reg .b32 half;\nmov.b32 half, 0x38003800;\nmul.rn.f16x2 %0, %0, half;\n"
        "tanh.approx.f16x2 %0, %0;\nfma.rn.f16x2 %0, %0, half, half;\n}"
        : "+r"(v));
    return v;
}

// Rounds two values, the first into the lower half, as round_16 does.
DEVICE u32 round_pair(float low, float high) {
#if defined(PRECISION_F16) && __CUDA_ARCH__ >= 800
    u32 both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#elif defined(PRECISION_BF16)
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return round_16(low) | static_cast<u32>(round_16(high)) << 16;
#endif
}

DEVICE float widen_f16(u16 bits) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
    return v;
}
#endif

// T is the storage format; a vector of VEC values is 16 bytes, the unit of every access to maps. widen
// converts to float32.
#if defined(PRECISION_F32) || defined(PRECISION_TF32)
typedef float T;
constexpr int VEC = 4;
DEVICE float widen(T v) { return v; }
#else
typedef u16 T;
constexpr int VEC = 8;
#if defined(PRECISION_F16)
DEVICE float widen(T v) { return widen_f16(v); }
#else
DEVICE float widen(T v) { return float_of(static_cast<u32>(v) << 16); }
#endif
#endif

// A vector in the storage format.
struct alignas(16) Stored {
    T v[VEC];
};

// A vector in float32.
struct Values {
    float v[VEC];
};

DEVICE uint4 read_16(const void* from) { return *static_cast<const uint4*>(from); }

DEVICE Values unpack(uint4 chunk) {
    const u32 words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
    Values out;
    UNROLL for (int i = 0; i < 4; i++) {
#if defined(PRECISION_F32) || defined(PRECISION_TF32)
        out.v[i] = float_of(words[i]);
#else
        out.v[2 * i] = widen(static_cast<u16>(words[i]));
#if defined(PRECISION_F16)
        out.v[2 * i + 1] = widen(static_cast<u16>(words[i] >> 16));
#else
        // One instruction less than to shift down and up again.
        out.v[2 * i + 1] = float_of(words[i] & 0xffff0000u);
#endif
#endif
    }
    return out;
}

DEVICE uint4 pack(const Values& values) {
    const float* v = values.v;
#if defined(PRECISION_F32) || defined(PRECISION_TF32)
    union {
        float v[VEC];
        uint4 chunk;
    } both = {{v[0], v[1], v[2], v[3]}};
    return both.chunk;
#else
    return uint4{round_pair(v[0], v[1]), round_pair(v[2], v[3]),  //
                 round_pair(v[4], v[5]), round_pair(v[6], v[7])};
#endif
}

// Reads and writes a vector in the storage format, 16 bytes.
DEVICE Values load(const T* from) { return unpack(read_16(from)); }
DEVICE void store(T* to, const Values& values) { *reinterpret_cast<uint4*>(to) = pack(values); }

// Reads and writes a vector of float32, 16 or 32 bytes, as one or two accesses of 16 bytes.
DEVICE Values load_wide(const float* from) {
    Values out;
    UNROLL for (int at = 0; at < VEC; at += 4) {
        uint4 chunk = read_16(from + at);
        out.v[at] = float_of(chunk.x);
        out.v[at + 1] = float_of(chunk.y);
        out.v[at + 2] = float_of(chunk.z);
        out.v[at + 3] = float_of(chunk.w);
    }
    return out;
}

struct alignas(16) Four {
    float v[4];
};

DEVICE void store_wide(float* to, const Values& values) {
    UNROLL for (int at = 0; at < VEC; at += 4) {
        *reinterpret_cast<Four*>(to + at) =
            Four{{values.v[at], values.v[at + 1], values.v[at + 2], values.v[at + 3]}};
    }
}

DEVICE int divide_up(int a, int b) { return (a + b - 1) / b; }
