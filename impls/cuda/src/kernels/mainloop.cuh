// The main loop of a convolution: one tile of the product im2col(x) * transposed weights, as an implicit
// GEMM.
//
// A block computes BM pixels x BN outputs with WARPS_M x WARPS_N warps, step by step along K. The operands of
// a step lie in one of SLOTS slots of shared memory (loader.cuh). While one slot is multiplied, asynchronous
// copies fill the others, as long as K lasts.
//
// Accumulators: of each 16 x 8 block of a warp's tile, lane l holds rows l / 4 and l / 4 + 8, columns
// l % 4 * 2 and l % 4 * 2 + 1. This is the layout of mma.sync; plain float32 uses it, too.
#pragma once
#include "loader.cuh"

constexpr int MI = BM / WARPS_M / 16;
constexpr int NI = BN / WARPS_N / 8;
static_assert(BM % (16 * WARPS_M) == 0 && BN % (16 * WARPS_N) == 0,
              "each warp needs a multiple of 16 rows and columns, which it reads by ldmatrix");

// A thread's part of the tile: MI x NI blocks of 16 x 8, four values of each.
struct Accumulators {
    float v[MI][NI][4];
};

// First row (pixel) and column (output) of this warp's part of the tile.
DEVICE int warp_row() { return thread_index() / 32 / WARPS_N * (BM / WARPS_M); }
DEVICE int warp_column() { return thread_index() / 32 % WARPS_N * (BN / WARPS_N); }

// Row (pixel) and column (output) in the tile of the value v[mi][ni][i] of this thread.
DEVICE int acc_row(int mi, int i) {
    return warp_row() + mi * 16 + thread_index() % 32 / 4 + i / 2 * 8;
}
DEVICE int acc_column(int ni, int i) {
    return warp_column() + ni * 8 + thread_index() % 4 * 2 + i % 2;
}

#if defined(PRECISION_F32)
// Values of K that a thread holds at a time. Large tiles leave registers for two of each row only.
constexpr int HELD = MI * NI < 32 ? 4 : 2;

struct alignas(4 * HELD) Held {
    float v[HELD];
};

DEVICE Held held_at(u8* rows, int row, int k) {
    return *reinterpret_cast<Held*>(vector_at(rows, row, k / 4) + k % 4 * 4);
}

// Adds the product of one slot: plain float32 without tensor cores, one fused multiply-add for each k, in the
// order of K.
DEVICE void multiply(Accumulators& acc, u8* slot) {
    for (int first = 0; first < STEP * 4; first += HELD) {
        Held b[NI][2];
        UNROLL for (int ni = 0; ni < NI; ni++) {
            UNROLL for (int i = 0; i < 2; i++)
                b[ni][i] = held_at(slot + BM * ROW_BYTES, acc_column(ni, i), first);
        }
        UNROLL for (int mi = 0; mi < MI; mi++) {
            UNROLL for (int half = 0; half < 2; half++) {
                Held a = held_at(slot, acc_row(mi, half * 2), first);
                UNROLL for (int k = 0; k < HELD; k++) {
                    UNROLL for (int ni = 0; ni < NI; ni++) {
                        UNROLL for (int i = 0; i < 2; i++) {
                            float& sum = acc.v[mi][ni][half * 2 + i];
                            sum = fma_(a.v[k], b[ni][i].v[k], sum);
                        }
                    }
                }
            }
        }
    }
}
#else
// Adds the product of one slot on tensor cores, two vectors of K for each mma.sync.
DEVICE void multiply(Accumulators& acc, u8* slot) {
    int lane = thread_index() % 32;
    int a_row = warp_row() + lane % 16, b_row = BM + warp_column() + lane % 8 + lane / 16 * 8;
    UNROLL for (int vector = 0; vector < STEP; vector += 2) {
        u32 a[MI][4], b[NI / 2][4];
        // Rows that are 16 apart have the same swizzle.
        const u8 *a_rows = vector_at(slot, a_row, vector + lane / 16),
                 *b_rows = vector_at(slot, b_row, vector + lane / 8 % 2);
        UNROLL for (int mi = 0; mi < MI; mi++) {
            load_matrices(a[mi], a_rows + mi * 16 * ROW_BYTES);
            UNROLL for (int i = 0; i < 4; i++) a[mi][i] = round_tf32(a[mi][i]);
        }
        UNROLL for (int ni = 0; ni < NI / 2; ni++) load_matrices(b[ni], b_rows + ni * 16 * ROW_BYTES);
        UNROLL for (int mi = 0; mi < MI; mi++) {
            UNROLL for (int ni = 0; ni < NI; ni++)
                multiply_matrices(acc.v[mi][ni], a[mi], b[ni / 2][ni % 2 * 2], b[ni / 2][ni % 2 * 2 + 1]);
        }
    }
}
#endif

// Steps of K in a source; the last may be partial.
DEVICE int steps_of(const Source& source) { return divide_up(source.k / VEC, STEP); }

// Adds the product of a source over the steps first..last (exclusive) of its K. All threads of the block must
// call it, after find_places. On return every thread is done with the slots.
template <bool Gate>
DEVICE void accumulate(Accumulators& acc, const Source& source, int outputs, int first_output, int first,
                       int last) {
    u8* slots = shared_memory();
    Loader loader(source, outputs, first_output, first);
    for (int ahead = 0; ahead < SLOTS - 1; ahead++) {
        if (first + ahead < last) loader.start_copies(slots + ahead * SLOT_BYTES);
        commit();
    }
    // Offsets of the slot to be multiplied, and of the one to be filled.
    int full = 0, free = (SLOTS - 1) * SLOT_BYTES;
    for (int step = first; step < last; step++) {
        wait<SLOTS - 2>();
        if (Gate && source.gate) loader.apply_gate(slots + full);
        // Behind the barrier, the copies of all threads for this step have arrived, and all threads have
        // multiplied the step before, whose slot is filled next.
        sync_threads();
        if (step + SLOTS - 1 < last) loader.start_copies(slots + free);
        commit();
        multiply(acc, slots + full);
        free = full;
        full = full + SLOT_BYTES < SLOTS * SLOT_BYTES ? full + SLOT_BYTES : 0;
    }
    wait<0>();
    sync_threads();
}
