// The machine that the kernels are written for: the only file with inline PTX. With EMULATE, the
// same words mean the host (emulate.hpp), so that every kernel runs where there is no GPU.
//
// One of PRECISION_F32, PRECISION_TF32, PRECISION_BF16, PRECISION_F16 says how numbers are stored and
// multiplied; sums are float32 always. ARGS_BYTES is the size of the arguments on the Rust side,
// RESIDENT the blocks for which a multiprocessor's registers must suffice.
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
#else
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define UNROLL _Pragma("unroll")

// A kernel with one argument, a struct.
#define KERNEL(name, Args, threads)                                \
    static_assert(sizeof(Args) == ARGS_BYTES, "Rust disagrees");   \
    extern "C" __global__ void __launch_bounds__(threads, RESIDENT) \
        name(const __grid_constant__ Args args)

DEVICE int thread_index() { return threadIdx.x; }
DEVICE int block_x() { return blockIdx.x; }
DEVICE int block_y() { return blockIdx.y; }
DEVICE int block_z() { return blockIdx.z; }
DEVICE void sync_threads() { __syncthreads(); }
DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// Arithmetic that no compiler contracts or reorders, so that fused and separate kernels agree.
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float fma_(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
DEVICE float exponential(float v) { return expf(v); }

// Dynamic shared memory.
DEVICE u8* shared_memory() {
    extern __shared__ __align__(128) u8 memory[];
    return memory;
}

DEVICE u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

// Copies 16 bytes into shared memory, or zeros where `valid` is false; done after `wait`.
DEVICE void copy_async(void* to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
#else
    *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#endif
}

// Ends a group of copies.
DEVICE void commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most so many groups of this thread are under way.
template <int GROUPS>
DEVICE void wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit values, or 8x4 of 32-bit ones: lane l names row l % 8 of matrix l / 8,
// and gets the 32 bits of row l / 4, column l % 4 of each.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// d += a b: 16 rows, 8 columns, a depth of 32 bytes.
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

// A float32 with 10 bits of fraction, to nearest.
DEVICE u32 round_tf32(u32 bits) {
    u32 out = bits;
#if defined(PRECISION_TF32)
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(out) : "f"(__uint_as_float(bits)));
#endif
    return out;
}

DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }

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

DEVICE float widen_f16(u16 bits) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
    return v;
}
#endif

// T is a stored number; VEC of them are 16 bytes.
#if defined(PRECISION_F32) || defined(PRECISION_TF32)
typedef float T;
constexpr int VEC = 4;
DEVICE float widen(T v) { return v; }
DEVICE T narrow(float v) { return v; }
#else
typedef u16 T;
constexpr int VEC = 8;
#if defined(PRECISION_F16)
DEVICE float widen(T v) { return widen_f16(v); }
#else
DEVICE float widen(T v) { return float_of(static_cast<u32>(v) << 16); }
#endif
DEVICE T narrow(float v) { return round_16(v); }
#endif

// VEC stored numbers, read or written at once.
struct alignas(16) Stored {
    T v[VEC];
};

// VEC sums.
struct Values {
    float v[VEC];
};

DEVICE uint4 read_16(const void* from) { return *static_cast<const uint4*>(from); }

DEVICE Values unpack(uint4 chunk) {
    union {
        uint4 chunk;
        Stored stored;
    } both = {chunk};
    Values out;
    UNROLL for (int i = 0; i < VEC; i++) out.v[i] = widen(both.stored.v[i]);
    return out;
}

DEVICE uint4 pack(const Values& values) {
    union {
        Stored stored;
        uint4 chunk;
    } both;
    UNROLL for (int i = 0; i < VEC; i++) both.stored.v[i] = narrow(values.v[i]);
    return both.chunk;
}

DEVICE Values load(const T* from) { return unpack(read_16(from)); }
DEVICE void store(T* to, const Values& values) { *reinterpret_cast<uint4*>(to) = pack(values); }

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
