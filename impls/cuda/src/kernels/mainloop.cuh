// The hot path: a tile of a convolution as a product of gathered pixels and weights (implicit GEMM).
//
// A block computes BM pixels x BN outputs with WARPS_M x WARPS_N warps. Its operands pass through
// shared memory in STEPS slots of BK values (64 bytes) a row, copied asynchronously while earlier
// slots are multiplied. Chunks of 16 bytes are stored at column chunk ^ (row / 2 % 4): the eight rows
// that ldmatrix reads together then lie in different banks.
//
// Of a warp's 16 x 8 sums a thread owns rows lane / 4 and + 8, columns lane % 4 * 2 and + 1, for tensor
// cores and for plain float32 alike.
#pragma once
#include "device.cuh"

constexpr int THREADS = 32 * WARPS_M * WARPS_N;
constexpr int BK = 4 * VEC;
constexpr int ROWS_A_PASS = THREADS / 4;
constexpr int PASSES_A = (BM + ROWS_A_PASS - 1) / ROWS_A_PASS;
constexpr int PASSES_B = (BN + ROWS_A_PASS - 1) / ROWS_A_PASS;
constexpr int MI = BM / WARPS_M / 16;
constexpr int NI = BN / WARPS_N / 8;
constexpr int SLOT = (BM + BN) * 64;
constexpr int OUT_PITCH = BN + 8;
static_assert(BM % (16 * WARPS_M) == 0 && BN % (16 * WARPS_N) == 0, "whole warp tiles");
static_assert(SHARED_BYTES >= STEPS * SLOT && SHARED_BYTES >= BM * OUT_PITCH * 4, "room");

// One input of a convolution: a map [images, height, width, pitch] and weights [outputs, kernel,
// kernel, pitch]. The gate [images, pitch], if there is one, multiplies the input.
struct Source {
    const T* x;
    const T* weights;
    const float* gate;
    int height, width, pitch;
    int kernel, stride, padding;
    int depth;  // kernel * kernel * pitch
    int unused;
};

// What a convolution computes: pixels x outputs.
struct Extent {
    int pixels;         // of all images
    int height, width;  // of one
    int outputs;        // rows of the weights
};

struct Sums {
    float v[MI][NI][4];
};

DEVICE int warp_row() { return thread_index() / 32 / WARPS_N * (BM / WARPS_M); }
DEVICE int warp_column() { return thread_index() / 32 % WARPS_N * (BN / WARPS_N); }
DEVICE int sum_row(int mi, int i) {
    return warp_row() + mi * 16 + thread_index() % 32 / 4 + i / 2 * 8;
}
DEVICE int sum_column(int ni, int i) {
    return warp_column() + ni * 8 + thread_index() % 4 * 2 + i % 2;
}

DEVICE u8* chunk_at(u8* rows, int row, int chunk) {
    return rows + (row * 4 + (chunk ^ (row / 2 % 4))) * 16;
}

// What a thread copies: one chunk column of some rows, walking along the depth.
template <bool Gate>
struct Loader {
    const Source& source;
    int first_output, outputs;
    int image[PASSES_A], y[PASSES_A], x[PASSES_A];  // y is far outside for rows that do not exist
    int k, channel, ky, kx;
    uint4 held[Gate ? PASSES_A : 1];

    DEVICE_MEMBER Loader(const Source& s, const Extent& e, int first_pixel, int first_output, int step)
        : source(s), first_output(first_output), outputs(e.outputs) {
        UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
            int row = thread_index() / 4 + pass * ROWS_A_PASS, pixel = first_pixel + row;
            bool there = row < BM && pixel < e.pixels;
            int place = pixel % (e.height * e.width);
            image[pass] = there ? pixel / (e.height * e.width) : 0;
            y[pass] = there ? place / e.width * s.stride - s.padding : -(1 << 20);
            x[pass] = place % e.width * s.stride - s.padding;
        }
        k = step * BK + thread_index() % 4 * VEC;
        int tap = k / s.pitch;
        channel = k % s.pitch;
        ky = tap / s.kernel;
        kx = tap % s.kernel;
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

    DEVICE_MEMBER bool inside(int pass) const {
        int row = y[pass] + ky, column = x[pass] + kx;
        return k < source.depth && row >= 0 && row < source.height && column >= 0 &&
               column < source.width;
    }

    DEVICE_MEMBER const T* pixel(int pass) const {
        i64 at = (static_cast<i64>(image[pass]) * source.height + (y[pass] + ky)) * source.width;
        return source.x + (at + x[pass] + kx) * source.pitch + channel;
    }

    // Starts the copies into a slot; gated pixels wait in registers until `put`.
    DEVICE_MEMBER void start(u8* slot) {
        UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
            int row = thread_index() / 4 + pass * ROWS_A_PASS;
            bool valid = inside(pass);
            if constexpr (Gate) {
                held[pass] = uint4{0, 0, 0, 0};
                if (valid) held[pass] = gated(pass);
            } else if (BM % ROWS_A_PASS == 0 || row < BM) {
                copy_async(chunk_at(slot, row, thread_index() % 4), valid ? pixel(pass) : source.x,
                           valid);
            }
        }
        UNROLL for (int pass = 0; pass < PASSES_B; pass++) {
            int row = thread_index() / 4 + pass * ROWS_A_PASS, output = first_output + row;
            bool valid = output < outputs && k < source.depth;
            const T* from = source.weights + static_cast<i64>(output) * source.depth + k;
            if (BN % ROWS_A_PASS == 0 || row < BN)
                copy_async(chunk_at(slot + BM * 64, row, thread_index() % 4),
                           valid ? from : source.weights, valid);
        }
    }

    DEVICE_MEMBER uint4 gated(int pass) const {
        Values v = load(pixel(pass));
        Values gate = load_wide(source.gate + static_cast<i64>(image[pass]) * source.pitch + channel);
        UNROLL for (int i = 0; i < VEC; i++) v.v[i] = mul(v.v[i], gate.v[i]);
        return pack(v);
    }

    DEVICE_MEMBER void put(u8* slot) const {
        if constexpr (Gate) {
            UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
                int row = thread_index() / 4 + pass * ROWS_A_PASS;
                if (BM % ROWS_A_PASS == 0 || row < BM)
                    *reinterpret_cast<uint4*>(chunk_at(slot, row, thread_index() % 4)) = held[pass];
            }
        }
    }
};

#if defined(PRECISION_F32)
DEVICE Four chunk_of(u8* rows, int row, int chunk) {
    return *reinterpret_cast<Four*>(chunk_at(rows, row, chunk));
}

// Plain float32: every product is exact to a rounding, in the order of the depth.
DEVICE void multiply(Sums& sums, u8* slot) {
    for (int chunk = 0; chunk < 4; chunk++) {
        Four b[NI][2];
        UNROLL for (int ni = 0; ni < NI; ni++) {
            UNROLL for (int i = 0; i < 2; i++)
                b[ni][i] = chunk_of(slot + BM * 64, sum_column(ni, i), chunk);
        }
        UNROLL for (int mi = 0; mi < MI; mi++) {
            UNROLL for (int half = 0; half < 2; half++) {
                Four a = chunk_of(slot, sum_row(mi, half * 2), chunk);
                UNROLL for (int k = 0; k < 4; k++) {
                    UNROLL for (int ni = 0; ni < NI; ni++) {
                        UNROLL for (int i = 0; i < 2; i++) {
                            float& sum = sums.v[mi][ni][half * 2 + i];
                            sum = fma_(a.v[k], b[ni][i].v[k], sum);
                        }
                    }
                }
            }
        }
    }
}
#else
DEVICE void multiply(Sums& sums, u8* slot) {
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
                multiply_matrices(sums.v[mi][ni], a[mi], b[ni / 2][ni % 2 * 2], b[ni / 2][ni % 2 * 2 + 1]);
        }
    }
}
#endif

DEVICE int steps_of(const Source& source) { return divide_up(source.depth, BK); }

// Adds the product of a source over steps first..last of its depth. All threads of the block take
// part; shared memory is free again at the end.
template <bool Gate>
DEVICE void accumulate(Sums& sums, const Source& source, const Extent& extent, int first_pixel,
                       int first_output, int first, int last) {
    u8* shared = shared_memory();
    Loader<Gate> loader(source, extent, first_pixel, first_output, first);
    for (int step = 0; step < STEPS - 1; step++) {
        if (first + step < last) {
            loader.start(shared + step * SLOT);
            loader.put(shared + step * SLOT);
            loader.advance();
        }
        commit();
    }
    for (int step = first; step < last; step++) {
        wait<STEPS - 2>();
        // Everybody's copies of this step have arrived, and everybody is done with the step before.
        sync_threads();
        u8* next = shared + (step - first + STEPS - 1) % STEPS * SLOT;
        bool more = step + STEPS - 1 < last;
        if (more) loader.start(next);
        commit();
        multiply(sums, shared + (step - first) % STEPS * SLOT);
        if (more) {
            loader.put(next);
            loader.advance();
        }
    }
    wait<0>();
    sync_threads();
}
