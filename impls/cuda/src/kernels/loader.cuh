// What the main loop reads: the operands of one step of K, copied into a slot of shared memory.
//
// K is processed in steps of 128 bytes, which are STEP vectors in every storage format. A slot holds BM rows
// of pixels, then BN rows of weights, 128 bytes each. Thread t copies vector t % STEP of rows t / STEP,
// t / STEP + ROWS_PER_PASS, ... of both operands.
//
// Swizzle: vector c of row r is stored at c ^ (r % 8) of its row. The eight rows that one ldmatrix reads
// together, and the eight vectors of a row that eight threads write, then lie in different banks.
//
// Offsets are 32-bit numbers of vectors: layout.rs lets no map have more than 2^30 of them.
#pragma once
#include "device.cuh"

constexpr int THREADS = 32 * WARPS_M * WARPS_N;
constexpr int ROW_BYTES = 128;
constexpr int STEP = ROW_BYTES / 16;
constexpr int ROWS_PER_PASS = THREADS / STEP;
constexpr int PASSES_A = BM / ROWS_PER_PASS;
constexpr int PASSES_B = BN / ROWS_PER_PASS;
constexpr int SLOT_BYTES = (BM + BN) * ROW_BYTES;
static_assert(BM % ROWS_PER_PASS == 0 && BN % ROWS_PER_PASS == 0 && ROWS_PER_PASS % 8 == 0,
              "every pass must copy whole groups of eight rows");

// One input of a convolution. K runs over (ky, kx, channel), the channel fastest.
struct Source {
    const T* x;          // [images, height, width, pitch]
    const T* weights;    // [outputs, kernel, kernel, pitch], zeros in padded channels
    const float* gate;   // [images, pitch], multiplies x; null: no gate
    int height, width;   // of the input map
    int pitch;           // channels with padding
    int kernel;          // side of the window, 12 at most
    int stride, padding;
    int k;               // kernel * kernel * pitch, the length of the reduction
    int unused;
};

// The result of a convolution: pixels x outputs.
struct Extent {
    int pixels;         // of all images
    int height, width;  // of one image
    int outputs;        // rows of the weights
};

// Where a row of the tile lies in the result. Rows beyond the last pixel repeat the first one of all; their
// products are never stored.
struct alignas(16) Place {
    int image, y, x, unused;
};

// Places of the rows of the tile, behind everything else in shared memory. All sources share them, so that
// the divisions are made once for each row.
constexpr int PLACES_AT = SHARED_BYTES - BM * static_cast<int>(sizeof(Place));
static_assert(PLACES_AT >= SLOTS * SLOT_BYTES, "shared memory must hold all slots, and the places");

DEVICE Place* places() { return reinterpret_cast<Place*>(shared_memory() + PLACES_AT); }

// Writes the places. All threads of the block must call it, before they make a Loader.
DEVICE void find_places(const Extent& e, int first_pixel) {
    for (int row = thread_index(); row < BM; row += THREADS) {
        int pixel = first_pixel + row < e.pixels ? first_pixel + row : 0;
        int line = pixel / e.width, image = line / e.height;
        places()[row] = Place{image, line - image * e.height, pixel - line * e.width, 0};
    }
    sync_threads();
}

// Address of a vector of a row of a slot, swizzled.
DEVICE u8* vector_at(u8* rows, int row, int vector) {
    return rows + row * ROW_BYTES + (vector ^ (row % 8)) * 16;
}

// For one direction: bit i, of 16, is set if pixel i of a window that starts at `at` lies outside of 0..size,
// or if the window has no pixel i.
DEVICE u32 bits_outside(int at, int size, int kernel) {
    int first = at < 0 ? -at : 0, end = size - at < kernel ? size - at : kernel;
    u32 before = (1u << (first < kernel ? first : kernel)) - 1;
    return (before | ~0u << (end > 0 ? end : 0)) & 0xffffu;
}

// A position in K: that of a thread's vectors, which are the same channels of the same window pixel for all
// of its rows.
struct Position {
    u32 column, row;       // 1 << kx and 1 << (16 + ky), to be tested against bits_outside of both directions
    int left;              // vectors from here to the end of the window pixel
    const Stored* vector;  // where it is for a window that starts at the first pixel of the map

    // The position after `vectors` more of K. A step may end the window pixel, or several.
    DEVICE_MEMBER void advance(const Source& source, int vectors) {
        left -= vectors;
        vector += vectors;
        while (left <= 0) {
            left += source.pitch / VEC;
            column <<= 1;
            if (column >> source.kernel) {
                column = 1;
                row <<= 1;
                vector += (source.width - source.kernel) * (source.pitch / VEC);
            }
        }
    }
};

// The copies of one thread, step by step along K.
struct Loader {
    const Source& source;
    int offset[PASSES_A];   // from the first pixel of the map to the window, negative where it starts above
    u32 outside[PASSES_A];  // columns of the window that are padding, and from bit 16 on rows
    int weights[PASSES_B];  // from the first row of weights to this one
    const Stored* row;      // where the next step is in the first row of weights
    Position next, gated;   // of the next step to be copied, and of the next one to be gated

    DEVICE_MEMBER Loader(const Source& s, int outputs, int first_output, int step) : source(s) {
        int vectors = s.pitch / VEC;
        UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
            Place place = places()[row_of(pass)];
            int y = place.y * s.stride - s.padding, x = place.x * s.stride - s.padding;
            offset[pass] = ((place.image * s.height + y) * s.width + x) * vectors;
            outside[pass] = bits_outside(x, s.width, s.kernel) | bits_outside(y, s.height, s.kernel) << 16;
        }
        // Rows beyond the outputs repeat the last one. Their products are never stored.
        UNROLL for (int pass = 0; pass < PASSES_B; pass++) {
            int output = first_output + row_of(pass);
            weights[pass] = (output < outputs ? output : outputs - 1) * (s.k / VEC);
        }
        int vector = thread_index() % STEP;
        row = reinterpret_cast<const Stored*>(s.weights) + step * STEP + vector;
        next = Position{1u, 1u << 16, vectors - vector, reinterpret_cast<const Stored*>(s.x) + vector};
        next.advance(s, step * STEP);
        gated = next;
    }

    DEVICE_MEMBER static int row_of(int pass) { return thread_index() / STEP + pass * ROWS_PER_PASS; }

    // Whether a vector exists; if not, it is padding, or beyond the end of K, and reads as zeros.
    DEVICE_MEMBER bool inside(int pass, const Position& at) const {
        return (outside[pass] & (at.column | at.row)) == 0;
    }

    // Starts the copies of one step into a slot, and goes on to the next step.
    DEVICE_MEMBER void start_copies(u8* slot) {
        u8* to = vector_at(slot, row_of(0), thread_index() % STEP);
        UNROLL for (int pass = 0; pass < PASSES_A; pass++)
            copy_async(to + pass * ROWS_PER_PASS * ROW_BYTES, offset_16(next.vector, offset[pass]),
                       inside(pass, next));
        // Beyond the last row of the window, K has ended.
        bool in_k = next.row >> source.kernel < 1u << 16;
        UNROLL for (int pass = 0; pass < PASSES_B; pass++)
            copy_async(to + (BM + pass * ROWS_PER_PASS) * ROW_BYTES, offset_16(row, weights[pass]), in_k);
        row += STEP;
        next.advance(source, STEP);
    }

    // Multiplies the pixels of a slot by the gate, and goes on to the next step. Every thread multiplies what
    // it has copied itself, so it needs to have waited for the copies, but no barrier. The product is rounded
    // to the storage format, because a slot holds nothing else. Padding stays zero whatever the gate is.
    DEVICE_MEMBER void apply_gate(u8* slot) {
        u8* at = vector_at(slot, row_of(0), thread_index() % STEP);
        const Four* gate = reinterpret_cast<const Four*>(source.gate);
        int channel = (source.pitch - gated.left * VEC) / 4, image[PASSES_A];
        UNROLL for (int pass = 0; pass < PASSES_A; pass++) image[pass] = places()[row_of(pass)].image;
        UNROLL for (int pass = 0; pass < PASSES_A; pass++) {
            void* vector = at + pass * ROWS_PER_PASS * ROW_BYTES;
            Values v = unpack(read_16(vector));
            Values factor = load_wide(gate[image[pass] * (source.pitch / 4) + channel].v);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = mul(v.v[i], factor.v[i]);
            store_shared(vector, pack(v), inside(pass, gated));
        }
        gated.advance(source, STEP);
    }
};
