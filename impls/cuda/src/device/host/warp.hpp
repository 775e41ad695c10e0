// Asynchronous copies, and the operations that all lanes of a warp perform together: ldmatrix, mma.sync and
// shuffles.
#pragma once
#include "fibers.hpp"

namespace emulate {

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

enum {
    MATRICES, MULTIPLY, SHUFFLE, STORE_TRANSPOSED, LOAD_TRANSPOSED, PRODUCT, PRODUCT_FENCE, PRODUCT_COMMIT,
    PRODUCT_WAIT
};

// stmatrix and ldmatrix with .trans (hopper.hpp).
inline void transpose_of(Fiber* warp, bool storing);

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
        if (operation == STORE_TRANSPOSED || operation == LOAD_TRANSPOSED)
            transpose_of(warp, operation == STORE_TRANSPOSED);
        for (int lane = 0; lane < 32; lane++) warp[lane].state = READY;
        if (block->launch.order < 2) return;
    }
    switch_to_scheduler();
}

}  // namespace emulate
