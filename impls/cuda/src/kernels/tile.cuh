// From a thread's sums to whole rows of 16 bytes, by way of shared memory.
#pragma once
#include "epilogue.cuh"
#include "mainloop.cuh"
#include "pool.cuh"

// Calls done(values, pixel, channel) for every VEC outputs of the tile, up to `pitch` channels, and leaves
// what it returns in shared memory in their place.
template <class Done>
DEVICE void each_row(const Sums& sums, const Extent& extent, int pitch, int first_pixel,
                     int first_output, Done done) {
    float* shared = reinterpret_cast<float*>(shared_memory());
    UNROLL for (int mi = 0; mi < MI; mi++) {
        UNROLL for (int ni = 0; ni < NI; ni++) {
            UNROLL for (int i = 0; i < 4; i++)
                shared[sum_row(mi, i) * OUT_PITCH + sum_column(ni, i)] = sums.v[mi][ni][i];
        }
    }
    sync_threads();
    constexpr int VECTORS = BN / VEC;
    for (int at = thread_index(); at < BM * VECTORS; at += THREADS) {
        int row = at / VECTORS, column = at % VECTORS * VEC;
        int pixel = first_pixel + row, channel = first_output + column;
        float* values = shared + row * OUT_PITCH + column;
        if (pixel < extent.pixels && channel < pitch)
            store_wide(values, done(load_wide(values), pixel, channel));
    }
}

// Adds up what each_row has left, for the mean over the map.
DEVICE void pool_rows(const Pool& pool, const Extent& extent, int pitch, int first_pixel, int first_output) {
    const float* shared = reinterpret_cast<const float*>(shared_memory());
    int rows = extent.pixels - first_pixel < BM ? extent.pixels - first_pixel : BM;
    sync_threads();
    for (int column = thread_index(); column < BN && first_output + column < pitch; column += THREADS)
        pool_tile(pool, pitch, first_pixel / BM, first_pixel, rows, first_output + column,
                  [&](int row) { return shared[row * OUT_PITCH + column]; });
}
