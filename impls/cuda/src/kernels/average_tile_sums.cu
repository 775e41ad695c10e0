// The second pass of a global average pool: adds the sums of a map's tiles (tile_sums.cuh), and divides by the
// number of pixels.
//
//   out[n, c] = (sum over tiles t that touch image n of sums[t, segment of n in t, c]) / pixels of an image
//
// Layout:  sums [tiles, segments, pitch] and out [images, pitch], both in float32
// Grid:    (images, pitch / CHANNELS), rounded up; blocks of 256 threads
// Shared:  one float for each thread
// SHARES threads share the tiles of each channel, and a tree adds their sums, in an order that does not depend
// on the schedule.
#include "tile_sums.cuh"

struct AverageTileSumsArgs {
    TileSums tile_sums;
    float* out;
    int pitch, tile_pixels;
};

constexpr int CHANNELS = 32, SHARES = 256 / CHANNELS;
static_assert(SHARED_BYTES >= 256 * 4, "shared memory must hold a sum of each thread");

KERNEL(average_tile_sums, AverageTileSumsArgs, 256) {
    int image = block_x(), share = thread_index() / CHANNELS, pixels = args.tile_sums.image_pixels;
    int channel = block_y() * CHANNELS + thread_index() % CHANNELS;
    bool exists = channel < args.pitch;
    i64 first = static_cast<i64>(image) * pixels, last = first + pixels - 1;
    float sum = 0.0f;
    for (i64 tile = first / args.tile_pixels + share; exists && tile <= last / args.tile_pixels; tile += SHARES) {
        // Only the first tile may begin in an earlier image.
        i64 begin = tile * args.tile_pixels, segment = begin < first ? image - begin / pixels : 0;
        i64 row = tile * args.tile_sums.segments + segment;
        sum = add(sum, args.tile_sums.sums[row * args.pitch + channel]);
    }
    float* shared = reinterpret_cast<float*>(shared_memory());
    for (int half = SHARES / 2; half > 0; half /= 2) {
        if (share < 2 * half) shared[thread_index()] = sum;
        sync_threads();
        if (share < half) sum = add(sum, shared[thread_index() + half * CHANNELS]);
        sync_threads();
    }
    if (exists && share == 0)
        args.out[static_cast<i64>(image) * args.pitch + channel] = divide(sum, static_cast<float>(pixels));
}
