// The main loop of a convolution: one tile of the product im2col(x) * transposed weights, as an implicit
// GEMM.
//
// A block computes BM pixels x BN outputs with WARPS_M x WARPS_N warps. K is processed in steps of BK values,
// which are 64 bytes in every storage format. The operands of a step lie in one of SLOTS slots of shared
// memory: BM rows of pixels, then BN rows of weights, 64 bytes each. While one slot is multiplied,
// asynchronous copies fill the others, as long as K lasts.
//
// Swizzle: the 16-byte chunk c of row r is stored at chunk c ^ (r / 2 % 4) of its row. The eight rows that
// one ldmatrix reads together then lie in different banks.
//
// Accumulators: of each 16 x 8 block of a warp's tile, lane l holds rows l / 4 and l / 4 + 8, columns
// l % 4 * 2 and l % 4 * 2 + 1. This is the layout of mma.sync; plain float32 uses it, too.
#pragma once
#include "device.cuh"

constexpr int THREADS = 32 * WARPS_M * WARPS_N;
constexpr int BK = 4 * VEC;
constexpr int ROWS_PER_PASS = THREADS / 4;
constexpr int PASSES_A = (BM + ROWS_PER_PASS - 1) / ROWS_PER_PASS;
constexpr int PASSES_B = (BN + ROWS_PER_PASS - 1) / ROWS_PER_PASS;
constexpr int MI = BM / WARPS_M / 16;
constexpr int NI = BN / WARPS_N / 8;
constexpr int SLOT_BYTES = (BM + BN) * 64;
constexpr int OUT_PITCH = BN + 8;
static_assert(BM % (16 * WARPS_M) == 0 && BN % (16 * WARPS_N) == 0,
              "each warp needs a multiple of 16 rows and columns, which it reads by ldmatrix");
static_assert(SHARED_BYTES >= SLOTS * SLOT_BYTES && SHARED_BYTES >= BM * OUT_PITCH * 4,
              "shared memory must hold all slots, and the tile as floats");

// One input of a convolution. K runs over (ky, kx, channel), the channel fastest.
struct Source {
    const T* x;          // [images, height, width, pitch]
    const T* weights;    // [outputs, kernel, kernel, pitch], zeros in padded channels
    const float* gate;   // [images, pitch], multiplies x; null: no gate
    int height, width;   // of the input map
    int pitch;           // channels with padding
    int kernel, stride, padding;
    int k;               // kernel * kernel * pitch, the length of the reduction
    int unused;
};

// The result of a convolution: pixels x outputs.
struct Extent {
    int pixels;         // of all images
    int height, width;  // of one image
    int outputs;        // rows of the weights
};

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

// Address of a 16-byte chunk of a row of a slot, swizzled.
DEVICE u8* chunk_at(u8* rows, int row, int chunk) {
    return rows + (row * 4 + (chunk ^ (row / 2 % 4))) * 16;
}

// The copies of one thread: chunk thread % 4 of rows thread / 4, thread / 4 + ROWS_PER_PASS, ... of both
// operands, step by step along K.
template <bool Gate>
struct Loader {
    const Source& source;
    int first_output, outputs;
    // Image, and input coordinates of the window's first pixel. Rows beyond the last pixel get a y so far
    // outside the map that every window pixel is padding.
    int image[PASSES_A], y[PASSES_A], x[PASSES_A];
    int k, channel, ky, kx;           // the same position in K, flat and split
    uint4 held[Gate ? PASSES_A : 1];  // gated pixels between start_copies and store_gated

    DEVICE_MEMBER Loader(const Source& s, const Extent& e, int first_pixel, int first_output, int step)
        : source(s), first_output(first_output), outputs(e.outputs) {
        UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
            int row = thread_index() / 4 + pass * ROWS_PER_PASS, pixel = first_pixel + row;
            bool exists = row < BM && pixel < e.pixels;
            int in_image = pixel % (e.height * e.width);
            image[pass] = exists ? pixel / (e.height * e.width) : 0;
            y[pass] = exists ? in_image / e.width * s.stride - s.padding : -(1 << 20);
            x[pass] = in_image % e.width * s.stride - s.padding;
        }
        k = step * BK + thread_index() % 4 * VEC;
        int window_pixel = k / s.pitch;
        channel = k % s.pitch;
        ky = window_pixel / s.kernel;
        kx = window_pixel % s.kernel;
    }

    DEVICE_MEMBER void advance() {
        k += BK;
        channel += BK;
        while (channel >= source.pitch) {
            channel -= source.pitch;
            if (++kx == source.kernel) {
                kx = 0;
                ky++;
            }
        }
    }

    // Whether the chunk at k of a row exists; if not, it is padding and reads as zeros.
    DEVICE_MEMBER bool inside(int pass) const {
        int row = y[pass] + ky, column = x[pass] + kx;
        return k < source.k && row >= 0 && row < source.height && column >= 0 &&
               column < source.width;
    }

    DEVICE_MEMBER const T* pixel(int pass) const {
        i64 at = (static_cast<i64>(image[pass]) * source.height + (y[pass] + ky)) * source.width;
        return source.x + (at + x[pass] + kx) * source.pitch + channel;
    }

    // Starts the copies of one step into a slot. Gated pixels are loaded into registers instead, and reach
    // the slot with store_gated, so that the loads are in flight during a multiplication.
    DEVICE_MEMBER void start_copies(u8* slot) {
        UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
            int row = thread_index() / 4 + pass * ROWS_PER_PASS;
            bool valid = inside(pass);
            if constexpr (Gate) {
                held[pass] = uint4{0, 0, 0, 0};
                if (valid) held[pass] = gated(pass);
            } else if (BM % ROWS_PER_PASS == 0 || row < BM) {
                copy_async(chunk_at(slot, row, thread_index() % 4), valid ? pixel(pass) : source.x,
                           valid);
            }
        }
        UNROLL for (int pass = 0; pass < PASSES_B; pass++) {
            int row = thread_index() / 4 + pass * ROWS_PER_PASS, output = first_output + row;
            bool valid = output < outputs && k < source.k;
            const T* from = source.weights + static_cast<i64>(output) * source.k + k;
            if (BN % ROWS_PER_PASS == 0 || row < BN)
                copy_async(chunk_at(slot + BM * 64, row, thread_index() % 4),
                           valid ? from : source.weights, valid);
        }
    }

    // The product is rounded to the storage format, because a slot holds nothing else.
    DEVICE_MEMBER uint4 gated(int pass) const {
        Values v = load(pixel(pass));
        Values gate = load_wide(source.gate + static_cast<i64>(image[pass]) * source.pitch + channel);
        UNROLL for (int i = 0; i < VEC; i++) v.v[i] = mul(v.v[i], gate.v[i]);
        return pack(v);
    }

    DEVICE_MEMBER void store_gated(u8* slot) const {
        if constexpr (Gate) {
            UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
                int row = thread_index() / 4 + pass * ROWS_PER_PASS;
                if (BM % ROWS_PER_PASS == 0 || row < BM)
                    *reinterpret_cast<uint4*>(chunk_at(slot, row, thread_index() % 4)) = held[pass];
            }
        }
    }
};

#if defined(PRECISION_F32)
DEVICE Four chunk_of(u8* rows, int row, int chunk) {
    return *reinterpret_cast<Four*>(chunk_at(rows, row, chunk));
}

// Adds the product of one slot: plain float32 without tensor cores, one fused multiply-add for each k, in the
// order of K.
DEVICE void multiply(Accumulators& acc, u8* slot) {
    for (int chunk = 0; chunk < 4; chunk++) {
        Four b[NI][2];
        UNROLL for (int ni = 0; ni < NI; ni++) {
            UNROLL for (int i = 0; i < 2; i++)
                b[ni][i] = chunk_of(slot + BM * 64, acc_column(ni, i), chunk);
        }
        UNROLL for (int mi = 0; mi < MI; mi++) {
            UNROLL for (int half = 0; half < 2; half++) {
                Four a = chunk_of(slot, acc_row(mi, half * 2), chunk);
                UNROLL for (int k = 0; k < 4; k++) {
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
// Adds the product of one slot on tensor cores, half a slot (32 bytes of K) for each mma.sync.
DEVICE void multiply(Accumulators& acc, u8* slot) {
    int lane = thread_index() % 32;
    UNROLL for (int half = 0; half < 2; half++) {
        u32 a[MI][4], b[NI / 2][4];
        UNROLL for (int mi = 0; mi < MI; mi++) {
            int row = warp_row() + mi * 16 + lane % 16;
            load_matrices(a[mi], chunk_at(slot, row, half * 2 + lane / 16));
            UNROLL for (int i = 0; i < 4; i++) a[mi][i] = round_tf32(a[mi][i]);
        }
        UNROLL for (int ni = 0; ni < NI / 2; ni++) {
            int row = warp_column() + ni * 16 + lane % 8 + lane / 16 * 8;
            load_matrices(b[ni], chunk_at(slot + BM * 64, row, half * 2 + lane / 8 % 2));
        }
        UNROLL for (int mi = 0; mi < MI; mi++) {
            UNROLL for (int ni = 0; ni < NI; ni++)
                multiply_matrices(acc.v[mi][ni], a[mi], b[ni / 2][ni % 2 * 2], b[ni / 2][ni % 2 * 2 + 1]);
        }
    }
}
#endif

// Steps of K in a source; the last may be partial.
DEVICE int steps_of(const Source& source) { return divide_up(source.k, BK); }

// Adds the product of a source over the steps first..last (exclusive) of its K. All threads of the block must
// call it. On return every thread is done with shared memory.
template <bool Gate>
DEVICE void accumulate(Accumulators& acc, const Source& source, const Extent& extent, int first_pixel,
                       int first_output, int first, int last) {
    u8* shared = shared_memory();
    Loader<Gate> loader(source, extent, first_pixel, first_output, first);
    for (int step = 0; step < SLOTS - 1; step++) {
        if (first + step < last) {
            loader.start_copies(shared + step * SLOT_BYTES);
            loader.store_gated(shared + step * SLOT_BYTES);
            loader.advance();
        }
        commit();
    }
    for (int step = first; step < last; step++) {
        wait<SLOTS - 2>();
        // Behind the barrier, the copies of all threads for this step have arrived, and all threads have
        // multiplied the step before, whose slot is filled next.
        sync_threads();
        u8* next = shared + (step - first + SLOTS - 1) % SLOTS * SLOT_BYTES;
        bool more = step + SLOTS - 1 < last;
        if (more) loader.start_copies(next);
        commit();
        multiply(acc, shared + (step - first) % SLOTS * SLOT_BYTES);
        if (more) {
            loader.store_gated(next);
            loader.advance();
        }
    }
    wait<0>();
    sync_threads();
}
