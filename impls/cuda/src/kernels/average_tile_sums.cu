// The second pass of a global average pool: adds the sums of a map's tiles (tile_sums.cuh) in the order of
// the tiles, and divides by the number of pixels.
//
//   out[n, c] = (sum over tiles t that touch image n of sums[t, segment of n in t, c]) / pixels of an image
//
// Layout:  sums [tiles, segments, pitch] and out [images, pitch], both in float32
// Grid:    (images, pitch / 256), rounded up; blocks of 256 threads, one channel for each thread
// Shared:  none
#include "tile_sums.cuh"

struct AverageTileSumsArgs {
    TileSums tile_sums;
    float* out;
    int pitch, tile_pixels;
};

KERNEL(average_tile_sums, AverageTileSumsArgs, 256) {
    int image = block_x(), channel = block_y() * 256 + thread_index(), pixels = args.tile_sums.image_pixels;
    if (channel >= args.pitch) return;
    i64 first = static_cast<i64>(image) * pixels, last = first + pixels - 1;
    float sum = 0.0f;
    for (i64 tile = first / args.tile_pixels; tile <= last / args.tile_pixels; tile++) {
        i64 segment = image - tile * args.tile_pixels / pixels;
        i64 row = tile * args.tile_sums.segments + segment;
        sum = add(sum, args.tile_sums.sums[row * args.pitch + channel]);
    }
    args.out[static_cast<i64>(image) * args.pitch + channel] = divide(sum, static_cast<float>(pixels));
}
