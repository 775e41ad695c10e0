// The primitives of sm_90a that bands.cuh is written in: barriers in shared memory that count arrivals and
// bytes, copies of boxes of a tensor (TMA), products of a warpgroup (wgmma). device/host/hopper.hpp
// implements the same names on the host.
//
// A box in shared memory consists of rows of 128 bytes, 64 values, and starts at a multiple of 128 bytes.
// Chunk c of 16 bytes lies at chunk c ^ (address / 128 % 8) of its row. As the XOR depends on the address
// alone, a box may be read from any of its rows on.
#pragma once
#include "device.cuh"

// Rows of an operand of a product, and of a box: 64 values of 16 bits.
constexpr int ROW_BYTES = 128;

#ifndef EMULATE
// A CUtensorMap, which the driver encodes.
struct alignas(64) TensorMap {
    u64 words[16];
};

// A barrier that the calling thread initialises completes a phase when `count` threads have arrived and all
// bytes that they announced have landed. The fence makes it visible to other threads, after a barrier of the
// block, and to TMA.
DEVICE void barrier_init(u64* barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}
DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives, and announces bytes.
DEVICE void barrier_expect(u64* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

// Waits for the end of the phase with this parity; the first phase has parity 0. A phase that does not end within
// ten seconds is a fault, which ends the kernel instead of hanging the GPU. It ends by a store to address 0, because
// with a trap the assembler gives the kernel no more than the registers that it starts with, and spills.
DEVICE void barrier_wait(u64* barrier, int parity) {
    u32 done = 0, began = 0, now;
    while (true) {
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
        if (done) return;
        // The upper half of the nanoseconds counts 4.3 seconds at a time.
        asm volatile("mov.u32 %0, %%globaltimer_hi;" : "=r"(now));
        if (began == 0) began = now;
        if (now - began > 2) asm volatile("st.global.u32 [%0], %1;" ::"l"(0ull), "r"(0) : "memory");
    }
}

// Starts a copy of a box to shared memory, from the element (channel, x, y, image) on. What lies outside of
// the tensor becomes zeros. The bytes of the whole box count at the barrier.
DEVICE void load_box(void* to, const TensorMap* map, int channel, int x, int y, int image, u64* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%3, %4, %5, %6}], [%2];"
        ::"r"(shared_address(to)), "l"(map), "r"(shared_address(barrier)), "r"(channel), "r"(x), "r"(y), "r"(image)
        : "memory");
}

// Starts a copy of a box from shared memory. What lies outside of the tensor is not stored.
DEVICE void store_box(const TensorMap* map, int channel, int x, int y, int image, const void* from) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
                 "r"(shared_address(from)), "r"(channel), "r"(x), "r"(y), "r"(image)
                 : "memory");
}
DEVICE void store_box_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until the committed stores of this thread have read shared memory.
DEVICE void store_box_wait() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

// Makes what this thread has stored in shared memory visible to boxes and products.
DEVICE void fence_for_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Before the first product after the accumulators were used otherwise.
DEVICE void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most LEFT committed groups of products are under way. Without any, the accumulators may be
// used; the empty statements keep the compiler from using them earlier.
template <int LEFT, int BLOCKS, int COUNT>
DEVICE void wait_products(float (&d)[BLOCKS][COUNT]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
    if (LEFT == 0) {
        UNROLL for (int i = 0; i < BLOCKS * COUNT; i++) asm volatile("" : "+f"(d[i / COUNT][i % COUNT])::"memory");
    }
}

// The same address, of which the compiler does not know that it is the same at every call.
DEVICE u8* opaque(u8* p) {
    asm volatile("" : "+l"(p));
    return p;
}

// The registers of each thread of this warpgroup from here on.
template <int COUNT>
DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// A barrier of COUNT threads; ID 0 is that of the block.
template <int ID, int COUNT>
DEVICE void named_barrier() {
    asm volatile("bar.sync %0, %1;" ::"n"(ID), "n"(COUNT) : "memory");
}

// Stores and loads four matrices of 8x8 values of 16 bits. Lane l holds columns l % 4 * 2 and the next of row l / 4
// of each matrix, and passes the address of 16 bytes: row l % 8 of matrix l / 8, or its column if TRANSPOSED.
template <bool TRANSPOSED>
DEVICE void store_matrices(void* line, const u32 (&r)[4]) {
    u32 to = shared_address(line);
    if (TRANSPOSED)
        asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                     ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                     : "memory");
    else
        asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
                     ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                     : "memory");
}
template <bool TRANSPOSED>
DEVICE void load_matrices(u32 (&r)[4], const void* line) {
    u32 from = shared_address(line);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(from)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(from)
                     : "memory");
}

// start_product<COLUMNS>, which Rust writes for the variant (kernels/bands.rs).
#include "products.cuh"
#endif

// The descriptor of an operand of a product: rows of 128 swizzled bytes, from a 32-byte part of some row on. Eight
// rows are 1024 bytes apart from the next eight.
DEVICE u64 operand(u32 address) {
    return static_cast<u64>((address & 0x3ffff) >> 4) | 1ull << 16 | static_cast<u64>(1024 >> 4) << 32 | 1ull << 62;
}

// The low and the high one of two values in the storage format.
DEVICE float low_of(u32 two) { return widen(static_cast<T>(two)); }
DEVICE float high_of(u32 two) { return widen(static_cast<T>(two >> 16)); }

// The halves of sigmoid_halves.
DEVICE float low_half(u32 two) { return widen_f16(static_cast<u16>(two)); }
DEVICE float high_half(u32 two) { return widen_f16(static_cast<u16>(two >> 16)); }

// Infinity, and two values of -0 in the storage format, which may be added without a change.
#ifdef EMULATE
#define INFINITE __builtin_inff()
#else
#define INFINITE __int_as_float(0x7f800000)
#endif
constexpr u32 MINUS_ZEROS = 0x80008000u;
