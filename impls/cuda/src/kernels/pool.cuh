// Sums over the pixels of a tile, image by image: what a mean over maps is made of. The convolution that
// makes a map adds them up while it has the tile at hand; pool.cu does it from memory, in the same order.
#pragma once
#include "device.cuh"

// Sums [tiles, segments, pitch]: a tile of `rows` pixels touches at most so many images.
struct Pool {
    float* sums;   // null: not wanted
    int image;     // pixels of one
    int segments;
};

// One channel of a tile; at(row) is its value.
template <class At>
DEVICE void pool_tile(const Pool& pool, int pitch, int tile, int first_pixel, int rows, int channel, At at) {
    float* to = pool.sums + static_cast<i64>(tile) * pool.segments * pitch + channel;
    int left = pool.image - first_pixel % pool.image;
    float sum = 0.0f;
    for (int row = 0; row < rows; row++) {
        if (left-- == 0) {
            *to = sum;
            to += pitch;
            sum = 0.0f;
            left = pool.image - 1;
        }
        sum = add(sum, at(row));
    }
    *to = sum;
}
