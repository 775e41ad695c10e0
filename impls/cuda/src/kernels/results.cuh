// The end of a tile in bands (bands.cuh): what happens to its sums before they are stored.
#pragma once
#include "bands.cuh"
#include "tile_sums.cuh"

// Pixels of a tile of tile_sums.cuh.
constexpr int SUM_PIXELS = 64;

// A thread stores its accumulators in groups of eight, two for each of four 8x8 matrices, because stmatrix stores four
// matrices at a time: for a warp, 16 channels of 16 pixels. Usually matrices 0 and 2 have the thread's first
// channel and 1 and 3 the second, 8 more, of two neighbouring pixels. With NARROW the two of matrices 0 and 1 have two
// neighbouring channels, and those of 2 and 3 the channels that are 8 more.
constexpr int GROUPS = NARROW ? BLOCKS : (COLUMNS + 15) / 16;
constexpr int CHANNELS = NARROW ? 4 : 2;  // of a thread

// Which of the thread's channels an accumulator has.
DEVICE int which_channel(int matrix, int odd) { return NARROW ? matrix / 2 * 2 + odd : matrix % 2; }

// That channel, from the first of the tile on.
DEVICE int channel_of(const Member& w, int which) {
    if (NARROW) return w.lane % 4 * 2 + which % 2 + which / 2 * 8;
    return (OUTPUT_GROUPS == 2 ? w.group * 64 : 0) + w.warp * 16 + w.lane / 4 + which * 8;
}

// The column of the part that an accumulator belongs to.
DEVICE int column_of(const Member& w, int group, int matrix, int odd) {
    if (NARROW) return group * 64 + w.warp * 16 + matrix % 2 * 8 + w.lane / 4;
    return group * 16 + matrix / 2 * 8 + w.lane % 4 * 2 + odd;
}

// One accumulator by its place in a group. If COLUMNS is not a multiple of 16, the last group has only two matrices.
DEVICE bool is_held(int group, int matrix) { return NARROW || group * 2 + matrix / 2 < COLUMNS / 8; }
DEVICE float& accumulator(Accumulators& acc, int group, int matrix, int odd) {
    int at = (NARROW ? 0 : group * 8) + matrix * 2 + odd;
    return acc[NARROW ? group : 0][at];
}

// A warpgroup's part of a tile.
DEVICE BandTile part_of(const Worker& w, const Bands& b, BandTile tile) {
    if (OUTPUT_GROUPS == 2 || w.group == 0) return tile;
    tile.x += b.group_x;
    tile.y += b.group_y;
    tile.image += b.group_images;
    return tile;
}

// Calls act(accumulator, its place, its channel) for every accumulator whose pixel exists. `pitch` is that of the
// result.
template <class Act>
DEVICE void for_each_sum(Accumulators& acc, const Worker& w, const Bands& b, const BandTile& part, int pitch,
                         Act act) {
    UNROLL for (int i = 0; i < GROUPS * 8; i++) {
        int group = i / 8, matrix = i / 2 % 4, odd = i % 2;
        if (!is_held(group, matrix)) continue;
        int channel = part.output + channel_of(w, which_channel(matrix, odd));
        Place place(column_of(w, group, matrix, odd));
        if (channel < pitch && place.inside(b, part)) act(accumulator(acc, group, matrix, odd), place, channel);
    }
}

// Scale and bias of a thread's channels, and the least value that the activation keeps. What an epilogue
// does not have becomes an operation that changes no bit: a factor of 1, a term of -0, a least value of minus
// infinity.
struct Linear {
    float scale[CHANNELS], bias[CHANNELS], least;

    DEVICE_MEMBER Linear(const Epilogue& e, const Member& w, const BandTile& part)
        : least(e.activation == RELU ? 0.0f : -INFINITE) {
        UNROLL for (int which = 0; which < CHANNELS; which++) {
            int at = part.output + channel_of(w, which);
            scale[which] = e.scale && at < e.pitch ? e.scale[at] : 1.0f;
            bias[which] = e.bias && at < e.pitch ? e.bias[at] : -0.0f;
        }
    }
    DEVICE_MEMBER float apply(float v, int which) const { return fma_(v, scale[which], bias[which]); }
    DEVICE_MEMBER float activate(float v) const { return v < least ? 0.0f : v; }
};

// Before a tile: asks for the residual, which lands where the results are put later. One thread of each
// warpgroup does.
DEVICE void ask_for_residual(const Worker& w, const Bands& b, const BandTile& part, const TensorMap* residual) {
    if (thread_index() % 128) return;
    store_box_wait();
    barrier_expect(w.barriers.residual(w.group), b.result_pixels * ROW_BYTES);
    load_box(w.result(), residual, part.output + (OUTPUT_GROUPS == 2 ? w.group * 64 : 0), part.x, part.y, part.image,
             w.barriers.residual(w.group));
}

// The threads of a warpgroup meet.
DEVICE void meet(const Worker& w) {
    if (w.group == 0)
        named_barrier<1, 128>();
    else
        named_barrier<2, 128>();
}

// Applies the epilogue, of which it supports scale, bias, residual, ReLU and addend, with the same operations as
// apply_epilogue, and puts the results into shared memory. `residual` says that the residual lies where they are put.
DEVICE void put_results_at(u8* to, Accumulators& acc, const Linear& linear, const Member& w, const Bands& b,
                           const BandTile& part, const Epilogue& e, bool residual) {
    // The 16 bytes of a pixel that this lane's address stands for: row lane % 8 of matrix lane / 8.
    int chunk = NARROW ? w.lane / 16 : w.warp * 2 + w.lane / 8 % 2;
    int column = (NARROW ? w.warp * 16 + w.lane / 8 % 2 * 8 : w.lane / 16 * 8) + w.lane % 8;
    constexpr int APART = NARROW ? 64 : 16;  // columns from a group to the next
    // Without `opaque` the compiler computes all addresses before the loop over tiles, and has no registers
    // for them.
    u8* first = opaque(to) + column * ROW_BYTES + (chunk ^ (column & 7)) * 16;
    UNROLL for (int group = 0; group < GROUPS; group++) {
        u8* address = first + group * APART * ROW_BYTES;
        if (b.band_images > 1) {
            // Results have no border between images.
            Place place(group * APART + column);
            int row = (place.image() * b.rows + place.y()) * b.pitch + place.x();
            if (!place.exists()) row = COLUMNS + w.lane % 8;
            address = to + row * ROW_BYTES + (chunk ^ (row & 7)) * 16;
        }
        u32 added[4], r[4];
        UNROLL for (int m = 0; m < 4; m++) added[m] = MINUS_ZEROS;
        if (residual) load_matrices<!NARROW>(added, address);
        UNROLL for (int m = 0; m < 4; m++) {
            float v[2];
            UNROLL for (int odd = 0; odd < 2; odd++) {
                int which = which_channel(m, odd), channel = part.output + channel_of(w, which);
                float sum = is_held(group, m) ? accumulator(acc, group, m, odd) : 0.0f;
                sum = add(linear.apply(sum, which), odd ? high_of(added[m]) : low_of(added[m]));
                v[odd] = linear.activate(sum);
                if (ADDEND) {
                    Place place(column_of(w, group, m, odd));
                    if (channel < e.channels && place.inside(b, part))
                        v[odd] = add(v[odd], e.addend[place.in_image(b, part) * e.pitch + channel]);
                }
                // As in apply_epilogue: padded channels are zeros even where an input is NaN.
                if (channel >= e.channels) v[odd] = 0.0f;
            }
            r[m] = round_pair(v[0], v[1]);
        }
        store_matrices<!NARROW>(address, r);
    }
}

// The end of a tile: puts the results where all threads of the warpgroup see them on return. `residual` says that the
// residual has been asked for; it lands where the result is put.
DEVICE void put_results(Accumulators& acc, const Worker& w, const Bands& b, const BandTile& part,
                        const Epilogue& e, bool residual, int residual_parity) {
    Linear linear(e, w, part);
    // Earlier stores have read this memory: a residual was asked for only then, and otherwise this waits.
    if (residual) {
        barrier_wait(w.barriers.residual(w.group), residual_parity);
    } else {
        if (thread_index() % 128 == 0) store_box_wait();
        meet(w);
    }
    put_results_at(w.result(), acc, linear, w, b, part, e, residual);
    fence_for_async();
    meet(w);
}

// Stores what `put_results` has put.
DEVICE void store_results(const Worker& w, const BandTile& part, const TensorMap* out) {
    if (thread_index() % 128) return;
    int output = part.output + (OUTPUT_GROUPS == 2 ? w.group * 64 : 0);
    store_box(out, output, part.x, part.y, part.image, w.result());
    store_box_commit();
}

// Sums the results of a tile of a map without a border, for the average pool over it, in tiles of SUM_PIXELS.
DEVICE void store_band_sums(const TileSums& to, const u8* results, const Member& w, const Bands& b,
                            const BandTile& part, int pitch) {
    int thread = thread_index() % 128, in_group = thread % 64;
    int channel = part.output + (OUTPUT_GROUPS == 2 ? w.group * 64 : 0) + in_group;
    for (int tile = thread / 64; tile < COLUMNS / SUM_PIXELS; tile += 2) {
        int first = part.x + tile * SUM_PIXELS, rows = b.width - first < SUM_PIXELS ? b.width - first : SUM_PIXELS;
        if (rows <= 0 || channel >= pitch) continue;
        sum_tile_channel(to, pitch, first / SUM_PIXELS, first, rows, channel, [&](int row) {
            int at = tile * SUM_PIXELS + row, chunk = in_group / 8 ^ (at & 7);
            const u8* from = results + at * ROW_BYTES + chunk * 16 + in_group % 8 * 2;
            return widen(*reinterpret_cast<const T*>(from));
        });
    }
}
