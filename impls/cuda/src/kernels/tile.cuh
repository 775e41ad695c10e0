// The end of a tile: from accumulators in registers, by way of shared memory, to vectors of VEC channels that
// are stored with 16-byte accesses.
#pragma once
#include "epilogue.cuh"
#include "mainloop.cuh"
#include "tile_sums.cuh"

constexpr int OUT_PITCH = BN + 8;
static_assert(PLACES_AT >= BM * OUT_PITCH * 4, "shared memory must hold the tile as floats, and the places");

// Calls store(values, pixel, channel) for every VEC channels of every pixel of the tile that lie inside the
// result, and leaves what it returns in shared memory, [BM, OUT_PITCH], for store_tile_sums.
template <class Store>
DEVICE void for_each_vector(const Accumulators& acc, const Extent& extent, int pitch, int first_pixel,
                            int first_output, Store store) {
    float* shared = reinterpret_cast<float*>(shared_memory());
    UNROLL for (int mi = 0; mi < MI; mi++) {
        UNROLL for (int ni = 0; ni < NI; ni++) {
            UNROLL for (int i = 0; i < 4; i++)
                shared[acc_row(mi, i) * OUT_PITCH + acc_column(ni, i)] = acc.v[mi][ni][i];
        }
    }
    sync_threads();
    constexpr int VECTORS = BN / VEC;
    for (int at = thread_index(); at < BM * VECTORS; at += THREADS) {
        int row = at / VECTORS, column = at % VECTORS * VEC;
        int pixel = first_pixel + row, channel = first_output + column;
        float* values = shared + row * OUT_PITCH + column;
        if (pixel < extent.pixels && channel < pitch)
            store_wide(values, store(load_wide(values), pixel, channel));
    }
}

// Sums the values that for_each_vector has left in shared memory, for the average pool over the map.
DEVICE void store_tile_sums(const TileSums& to, const Extent& extent, int pitch, int first_pixel,
                            int first_output) {
    const float* shared = reinterpret_cast<const float*>(shared_memory());
    int rows = extent.pixels - first_pixel < BM ? extent.pixels - first_pixel : BM;
    sync_threads();
    for (int column = thread_index(); column < BN && first_output + column < pitch; column += THREADS)
        sum_tile_channel(to, pitch, first_pixel / BM, first_pixel, rows, first_output + column,
                         [&](int row) { return shared[row * OUT_PITCH + column]; });
}
