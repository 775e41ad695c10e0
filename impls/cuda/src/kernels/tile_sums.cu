// The first pass of a global average pool over a map in memory: the sums of each tile of pixels. It replaces
// the sums that conv.cu makes of its own tiles wherever an observer may have replaced values of the map.
//
// Layout:  x [pixels, pitch] in the storage format, sums [tiles, segments, pitch] as in tile_sums.cuh
// Grid:    (tiles, pitch / 256), rounded up; blocks of 256 threads, one channel for each thread
// Shared:  none
#include "tile_sums.cuh"

struct TileSumsArgs {
    const T* x;
    TileSums tile_sums;
    int pixels, pitch, tile_pixels, unused;  // pixels of all images
};

KERNEL(tile_sums, TileSumsArgs, 256) {
    wait_for_earlier_kernels();
    int first = block_x() * args.tile_pixels, channel = block_y() * 256 + thread_index();
    int rows = args.pixels - first < args.tile_pixels ? args.pixels - first : args.tile_pixels;
    if (channel >= args.pitch) return;
    const T* from = args.x + static_cast<i64>(first) * args.pitch + channel;
    sum_tile_channel(args.tile_sums, args.pitch, block_x(), first, rows, channel,
                     [&](int row) { return widen(from[static_cast<i64>(row) * args.pitch]); });
}
