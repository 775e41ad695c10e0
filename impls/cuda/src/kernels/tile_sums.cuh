// Sums over the pixels of a tile, one for each image that the tile touches: the first pass of a global
// average pool. The convolution that makes a map sums its tiles while they are in shared memory (conv.cu);
// tile_sums.cu does the same from global memory, in the same order, so the bits are the same.
#pragma once
#include "device.cuh"

// A segment is the part of a tile that belongs to one image.
struct TileSums {
    float* sums;       // [tiles, segments, pitch]; null: not wanted
    int image_pixels;  // pixels of one image
    int segments;      // the most images that a tile touches
};

// Sums one channel of a tile of `rows` pixels, where at(row) is the value of a pixel, and stores one sum for
// each segment.
template <class At>
DEVICE void sum_tile_channel(const TileSums& to, int pitch, int tile, int first_pixel, int rows, int channel,
                             At at) {
    float* out = to.sums + static_cast<i64>(tile) * to.segments * pitch + channel;
    int left = to.image_pixels - first_pixel % to.image_pixels;  // in this image
    for (int row = 0; row < rows; out += pitch, left = to.image_pixels) {
        int end = left < rows - row ? row + left : rows;
        float sum = 0.0f;
        // Eight reads at a time, so that a sum does not wait for each of them.
        for (; row + 8 <= end; row += 8) {
            float values[8];
            UNROLL for (int i = 0; i < 8; i++) values[i] = at(row + i);
            UNROLL for (int i = 0; i < 8; i++) sum = add(sum, values[i]);
        }
        for (; row < end; row++) sum = add(sum, at(row));
        *out = sum;
    }
}
