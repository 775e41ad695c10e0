// From a thread's sums to whole rows of 16 bytes, by way of shared memory.
#pragma once
#include "epilogue.cuh"
#include "mainloop.cuh"

// Calls done(values, pixel, channel) for every VEC outputs of the tile, up to `pitch` channels.
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
        if (pixel < extent.pixels && channel < pitch)
            done(load_wide(shared + row * OUT_PITCH + column), pixel, channel);
    }
}
