// The main loop of a convolution on sm_90a, as a product whose rows are outputs and whose columns
// are pixels. results.cuh has the end of its tiles.
//
// A band is a box of the input map in shared memory: 64 channels of some rows of pixels, with the border of
// zeros that the window needs. The operand of the window's pixel (ky, kx) is the same band from another row
// on, so each pixel is loaded once for a whole window. The rows of a band follow each other without a gap, so
// the product also has columns for the border; they are computed and not stored.
//
// A block has two warpgroups that multiply, and a third whose first two warps load: one thread the bands, one
// the weights. With OUTPUT_GROUPS = 2 the two share a band and have 64 outputs each; with 1 they share the
// weights and have a part of the band each. A block works through tiles until none is left, and loads run
// ahead over tiles. Where an input has a gate (GATED), the other two warps of the third warpgroup multiply its
// bands by it, in shared memory, while others are being used.
//
// A product has 64 rows at least. So for at most 16 outputs (NARROW) pixels are the rows and outputs the columns: a
// warpgroup has a product for every 64 pixels of its part.
//
// K runs over chunks of 64 channels, window pixels, and channels of the chunk, rounded up to 16, in steps of
// 16. The weights are stored in this order, four steps in a row of shared memory.
//
// Shared memory: for each warpgroup COLUMNS + 8 rows of results, a table, the barriers, slots of bands, and
// slots of TILE_OUTPUTS rows of weights.
#pragma once
#include "epilogue.cuh"
#include "hopper.cuh"

constexpr int THREADS = 384;
constexpr int CHUNK = 64;                              // channels of a band
constexpr int STEP = 16;                               // values of K in a product
constexpr int STEPS_PER_ROW = CHUNK / STEP;            // steps in a row of weights
constexpr int TILE_OUTPUTS = NARROW ? 16 : 64 * OUTPUT_GROUPS;
constexpr int WEIGHT_BYTES = TILE_OUTPUTS * ROW_BYTES;
constexpr int RESULT_BYTES = (COLUMNS + 8) * ROW_BYTES;  // eight rows more for what is not stored
constexpr int MOST_SLOTS = 4;                          // of bands, and of weights
constexpr int BARRIERS = 5 * MOST_SLOTS + 2;
constexpr int FIRST_GATER = 320;                       // the threads that multiply by gates
constexpr int GATERS = THREADS - FIRST_GATER;
constexpr int PLACES_AT = 2 * RESULT_BYTES;             // behind the results: a pixel for each of COLUMNS + 8
constexpr int BARRIERS_AT = PLACES_AT + 1280;
constexpr int SLOTS_AT = PLACES_AT + 2048;
constexpr int BLOCKS = NARROW ? COLUMNS / 64 : 1;       // products of a step of K
constexpr int BLOCK_COLUMNS = NARROW ? TILE_OUTPUTS : COLUMNS;
static_assert(BARRIERS_AT + BARRIERS * 8 <= SLOTS_AT, "the barriers must end before the slots");
static_assert(RESULT_BYTES % 1024 == 0, "the pattern of swizzled chunks has 1024 bytes");
static_assert(COLUMNS % (NARROW ? 64 : 8) == 0 && COLUMNS <= 256, "the columns that a product can have");

// The accumulators of a thread. Those of 64 rows and 8 columns are four of each thread of the warpgroup.
using Accumulators = float[BLOCKS][BLOCK_COLUMNS / 2];

// One input of a convolution.
struct BandSource {
    TensorMap pixels;   // [images, height, width, channels], boxes of a band
    TensorMap weights;  // [outputs, K], boxes of a row of 64 values for TILE_OUTPUTS outputs
    int first;          // of its channels, in a pixel of the map
    int channels;       // with padding
    int rows, columns;  // of the window
    int above, left;    // rows and columns of the window before the pixel of the result
    int steps;          // of K
    int gate_pitch;     // of gate
    const float* gate;  // [images, gate_pitch], multiplies the pixels, with GATED; null: no gate
    int unused[6];
};

// How the pixels of the result are divided into tiles. A map without a border is one row of all pixels.
struct Bands {
    int tiles, output_tiles;   // all; those along the outputs, the fastest
    int across, down;          // tiles along a row; along the height of an image
    int tile_x, tile_y, tile_images;        // extent of a tile
    int group_x, group_y, group_images;     // from the first warpgroup's part to the second's, where they differ
    int group_row;             // the same, in rows of the band
    int halo;                  // pixels of the border
    int pitch;                 // pixels in a row of the band
    int image_rows;            // rows of pixels in the band for each image, with the border
    int rows, band_images;     // rows without the border, and images, of a warpgroup's part
    int result_pixels;         // pixels in the box of a warpgroup's results
    int width, height, images; // of the result
    int band_bytes;            // of a slot, a multiple of 1024
    int band_slots, weight_slots;  // MOST_SLOTS at most
    int unused;                // alignment
};

// Where a tile begins.
struct BandTile {
    int x, y, image, output;

    DEVICE_MEMBER BandTile(const Bands& b, int tile) {
        int place = tile / b.output_tiles;
        output = tile % b.output_tiles * TILE_OUTPUTS;
        x = place % b.across * b.tile_x;
        y = place / b.across % b.down * b.tile_y;
        image = place / b.across / b.down * b.tile_images;
    }
};

// The barriers, each 8 bytes.
struct Barriers {
    u64* first = reinterpret_cast<u64*>(shared_memory() + BARRIERS_AT);

    DEVICE_MEMBER u64* band_full(int slot) const { return first + slot; }
    DEVICE_MEMBER u64* band_empty(int slot) const { return first + MOST_SLOTS + slot; }
    DEVICE_MEMBER u64* weights_full(int slot) const { return first + 2 * MOST_SLOTS + slot; }
    DEVICE_MEMBER u64* weights_empty(int slot) const { return first + 3 * MOST_SLOTS + slot; }
    DEVICE_MEMBER u64* band_gated(int slot) const { return first + 4 * MOST_SLOTS + slot; }
    DEVICE_MEMBER u64* residual(int group) const { return first + 5 * MOST_SLOTS + group; }

    // What must have ended before a band may be multiplied by weights.
    DEVICE_MEMBER u64* band_ready(int slot) const { return GATED ? band_gated(slot) : band_full(slot); }
};

// A position in a ring of slots, with the parity of the phase in which its slot is filled.
struct Ring {
    int slots, slot = 0, parity = 0;

    DEVICE_MEMBER explicit Ring(int slots) : slots(slots) {}
    DEVICE_MEMBER void advance() {
        if (++slot == slots) {
            slot = 0;
            parity ^= 1;
        }
    }
};

// Where the slots lie. The bands come first, because a product reads up to 63 rows behind its band: it has
// more columns than the part has pixels. Behind the weights shared memory ends.
DEVICE u8* band_slot(const Bands& b, int slot) { return shared_memory() + SLOTS_AT + slot * b.band_bytes; }
DEVICE u8* weights_slot(const Bands& b, int slot) {
    return band_slot(b, b.band_slots) + slot * WEIGHT_BYTES;
}

// Steps of K in a window pixel of a chunk; the last chunk may have fewer.
DEVICE int steps_of_chunk(const BandSource& source, int chunk) {
    int left = source.channels - chunk * CHUNK;
    return divide_up(left < CHUNK ? left : CHUNK, STEP);
}

// The first threads of warps 8 and 9: all loads of the block, in the order in which `accumulate` takes them.
DEVICE void load_bands(const Barriers& barriers, const BandSource* sources, int count, const Bands& b) {
    Ring ring(b.band_slots);
    for (int tile = block_x(); tile < b.tiles; tile += blocks_x()) {
        BandTile at(b, tile);
        for (int i = 0; i < count; i++) {
            const BandSource& source = sources[i];
            for (int first = 0; first < source.channels; first += CHUNK) {
                barrier_wait(barriers.band_empty(ring.slot), ring.parity ^ 1);
                u64* full = barriers.band_full(ring.slot);
                barrier_expect(full, b.pitch * b.image_rows * b.tile_images * ROW_BYTES);
                load_box(band_slot(b, ring.slot), &source.pixels, source.first + first, at.x - b.halo, at.y - b.halo,
                         at.image, full);
                ring.advance();
            }
        }
    }
}

DEVICE void load_weights(const Barriers& barriers, const BandSource* sources, int count, const Bands& b) {
    Ring ring(b.weight_slots);
    for (int tile = block_x(); tile < b.tiles; tile += blocks_x()) {
        int output = BandTile(b, tile).output;
        for (int i = 0; i < count; i++) {
            for (int step = 0; step < sources[i].steps; step += STEPS_PER_ROW) {
                barrier_wait(barriers.weights_empty(ring.slot), ring.parity ^ 1);
                u64* full = barriers.weights_full(ring.slot);
                barrier_expect(full, WEIGHT_BYTES);
                load_box(weights_slot(b, ring.slot), &sources[i].weights, step * STEP, output, 0, 0, full);
                ring.advance();
            }
        }
    }
}

// Multiplies the pixels of a band, from channel `first` of its source on, by the gate of their image, and rounds
// them to the storage format. The border stays zero, whatever the gate is. Each gater has one of the eight chunks of
// every eighth row.
DEVICE void multiply_band(u8* band, const BandSource& source, const Bands& b, const BandTile& at, int first) {
    constexpr int AT_A_TIME = 4;  // rows that are read before one is written
    int gater = thread_index() - FIRST_GATER, chunk = gater % 8, residue = gater / 8;
    int channel = first + chunk * VEC, size = b.image_rows * b.pitch;
    if (channel >= source.channels) return;
    u8* column = band + (chunk ^ residue) * 16;
    for (int image = 0; image < b.tile_images && at.image + image < b.images; image++) {
        Values gate = load_wide(source.gate + static_cast<i64>(at.image + image) * source.gate_pitch + channel);
        int begin = image * size, from = (residue - begin) & 7, x = from % b.pitch, y = from / b.pitch;
        ROLLED for (int row = from; row < size; row += 8 * AT_A_TIME) {
            uint4 vectors[AT_A_TIME];
            bool inside[AT_A_TIME];
            u8* place = column + (begin + row) * ROW_BYTES;
            UNROLL for (int i = 0; i < AT_A_TIME; i++) {
                inside[i] = row + 8 * i < size && static_cast<u32>(at.x + x - b.halo) < static_cast<u32>(b.width) &&
                            static_cast<u32>(at.y + y - b.halo) < static_cast<u32>(b.height);
                vectors[i] = read_16(inside[i] ? place + i * 8 * ROW_BYTES : place);
                x += 8;
                while (x >= b.pitch) {
                    x -= b.pitch;
                    y++;
                }
            }
            UNROLL for (int i = 0; i < AT_A_TIME; i++) {
                Values v = unpack(vectors[i]);
                UNROLL for (int j = 0; j < VEC; j++) v.v[j] = mul(v.v[j], gate.v[j]);
                store_shared(place + i * 8 * ROW_BYTES, pack(v), inside[i]);
            }
        }
    }
}

// The gaters: every band in the order in which it is loaded. Bands without a gate they only pass on.
DEVICE void gate_bands(const Barriers& barriers, const BandSource* sources, int count, const Bands& b) {
    Ring ring(b.band_slots);
    for (int tile = block_x(); tile < b.tiles; tile += blocks_x()) {
        BandTile at(b, tile);
        for (int i = 0; i < count; i++) {
            for (int first = 0; first < sources[i].channels; first += CHUNK) {
                barrier_wait(barriers.band_full(ring.slot), ring.parity);
                if (sources[i].gate) {
                    multiply_band(band_slot(b, ring.slot), sources[i], b, at, first);
                    fence_for_async();
                }
                barrier_arrive(barriers.band_gated(ring.slot));
                ring.advance();
            }
        }
    }
}

// The place of a thread of a warpgroup that multiplies.
struct Member {
    int group = thread_index() / 128;
    int lane = thread_index() % 32;
    int warp = thread_index() / 32 % 4;  // in the warpgroup

    // Arrives at a barrier for the warp.
    DEVICE_MEMBER void release(u64* barrier) const {
        if (lane == 0) barrier_arrive(barrier);
    }
};

// What such a thread knows more: its position in both rings.
struct Worker : Member {
    Barriers barriers;
    Ring band, weights;

    DEVICE_MEMBER explicit Worker(const Bands& b) : band(b.band_slots), weights(b.weight_slots) {}

    DEVICE_MEMBER u8* result() const { return shared_memory() + group * RESULT_BYTES; }
};

// A step of K as an operand of a band.
struct Position {
    int chunk = 0, ky = 0, kx = 0, part = 0, parts;

    DEVICE_MEMBER explicit Position(const BandSource& source) : parts(steps_of_chunk(source, 0)) {}

    // Whether this step is the first that reads its band.
    DEVICE_MEMBER bool begins() const { return part == 0 && ky == 0 && kx == 0; }

    // Goes on, and returns whether that step was the last that read its band.
    DEVICE_MEMBER bool advance(const BandSource& source) {
        if (++part < parts) return false;
        part = 0;
        if (++kx == source.columns) {
            kx = 0;
            if (++ky == source.rows) {
                ky = 0;
                parts = steps_of_chunk(source, ++chunk);
                return true;
            }
        }
        return false;
    }
};

// Adds the product of a source to the accumulators of a tile; without `add`, they start at zero. All threads
// of both warpgroups must call it. On return the accumulators may be used.
DEVICE void accumulate(Accumulators& acc, Worker& w, const BandSource& source, const Bands& b, bool add) {
    Position at(source);
    int first_row = (b.halo - source.above) * b.pitch + b.halo - source.left;
    u32 rows = shared_address(band_slot(b, 0)) + (OUTPUT_GROUPS == 1 ? w.group * b.group_row * ROW_BYTES : 0);
    u32 weights = shared_address(weights_slot(b, 0)) + (OUTPUT_GROUPS == 2 ? w.group * 64 * ROW_BYTES : 0);
    // Steps beyond the last multiply weights that are zeros by the memory of the weights, which is finite. A
    // product under a condition would make the assembler wait after each of them.
    u64 other = operand(shared_address(weights_slot(b, 0)));
    // What the last group of products reads, and the bands that end with it; they are released when the next
    // group has been started.
    int read_weights = -1, read_bands = 0, first_read_band = w.band.slot;
    auto release = [&] {
        if (read_weights >= 0) w.release(w.barriers.weights_empty(read_weights));
        for (; read_bands > 0; read_bands--) {
            w.release(w.barriers.band_empty(first_read_band));
            if (++first_read_band == b.band_slots) first_read_band = 0;
        }
    };
    ROLLED for (int step = 0; step < source.steps; step += STEPS_PER_ROW) {
        barrier_wait(w.barriers.weights_full(w.weights.slot), w.weights.parity);
        int bands = 0;
        u64 of_weights = operand(weights + w.weights.slot * WEIGHT_BYTES), of_band[STEPS_PER_ROW];
        int to_next_block[STEPS_PER_ROW];
        UNROLL for (int i = 0; i < STEPS_PER_ROW; i++) {
            of_band[i] = other;
            to_next_block[i] = 0;
            if (step + i >= source.steps) continue;
            to_next_block[i] = 64 * ROW_BYTES / 16;
            if (at.begins()) barrier_wait(w.barriers.band_ready(w.band.slot), w.band.parity);
            int row = first_row + at.ky * b.pitch + at.kx;
            of_band[i] = operand(rows + w.band.slot * b.band_bytes + row * ROW_BYTES + at.part * STEP * 2);
            if (at.advance(source)) {
                w.band.advance();
                bands++;
            }
        }
        products_fence();
        UNROLL for (int i = 0; i < STEPS_PER_ROW; i++) {
            u64 these = of_weights + i * (STEP * 2 / 16);
            UNROLL for (int block = 0; block < BLOCKS; block++) {
                u64 pixels = of_band[i] + block * to_next_block[i];
                start_product<BLOCK_COLUMNS>(acc[block], NARROW ? pixels : these, NARROW ? these : pixels, add || i > 0);
            }
        }
        commit_products();
        wait_products<1>(acc);
        add = true;
        release();
        read_weights = w.weights.slot;
        read_bands = bands;
        w.weights.advance();
    }
    wait_products<0>(acc);
    release();
}

// A column of a warpgroup's part of a tile as a pixel. A table in shared memory holds them, because finding
// one takes divisions.
struct Place {
    u32 packed;  // x, y, image, ten bits each; all ones for the border

    DEVICE_MEMBER explicit Place(int column) : packed(table()[column]) {}
    DEVICE_MEMBER static u32* table() { return reinterpret_cast<u32*>(shared_memory() + PLACES_AT); }
    DEVICE_MEMBER static void fill(const Bands& b, int column) {
        int row = column / b.pitch, x = column % b.pitch, image = row / b.image_rows, y = row % b.image_rows;
        bool exists = column < COLUMNS && x < b.tile_x && y < b.rows && image < b.band_images;
        table()[column] = exists ? static_cast<u32>(x | y << 10 | image << 20) : ~0u;
    }

    DEVICE_MEMBER int x() const { return packed & 1023; }
    DEVICE_MEMBER int y() const { return packed >> 10 & 1023; }
    DEVICE_MEMBER int image() const { return packed >> 20 & 1023; }
    DEVICE_MEMBER bool exists() const { return packed != ~0u; }

    DEVICE_MEMBER bool inside(const Bands& b, const BandTile& part) const {
        return exists() && part.x + x() < b.width && part.y + y() < b.height && part.image + image() < b.images;
    }
    DEVICE_MEMBER i64 in_image(const Bands& b, const BandTile& part) const {
        return static_cast<i64>(part.y + y()) * b.width + part.x + x();
    }
    DEVICE_MEMBER i64 pixel(const Bands& b, const BandTile& part) const {
        return static_cast<i64>(part.image + image()) * b.height * b.width + in_image(b, part);
    }
};

// Before anything else: the table, the barriers, and finite weights. Every thread of the block must call it.
DEVICE void start_block(const Barriers& barriers, const Bands& b) {
    if (thread_index() < COLUMNS + 8) Place::fill(b, thread_index());
    uint4* weights = reinterpret_cast<uint4*>(weights_slot(b, 0));
    for (int at = thread_index(); at < b.weight_slots * WEIGHT_BYTES / 16; at += THREADS)
        weights[at] = uint4{0, 0, 0, 0};
    fence_for_async();
    if (thread_index() == 0) {
        for (int slot = 0; slot < b.band_slots; slot++) {
            barrier_init(barriers.band_full(slot), 1);
            barrier_init(barriers.band_empty(slot), 8);
            barrier_init(barriers.band_gated(slot), GATERS);
        }
        for (int slot = 0; slot < b.weight_slots; slot++) {
            barrier_init(barriers.weights_full(slot), 1);
            barrier_init(barriers.weights_empty(slot), 8);
        }
        for (int group = 0; group < 2; group++) barrier_init(barriers.residual(group), 1);
        barrier_init_fence();
    }
    sync_threads();
}

// The third warpgroup. Most of its registers go to the two that multiply: 56 + 2 * 224 are the 3 * 168 with which
// the block starts.
DEVICE void load(const Barriers& barriers, const BandSource* sources, int count, const Bands& b) {
    give_registers<56>();
    if (thread_index() == 256) load_bands(barriers, sources, count, b);
    if (thread_index() == 288) load_weights(barriers, sources, count, b);
    if (GATED && thread_index() >= FIRST_GATER) gate_bands(barriers, sources, count, b);
}
