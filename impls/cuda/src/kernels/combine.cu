// The mean over maps from the sums over tiles (pool.cuh), in the order of the tiles.
#include "pool.cuh"

struct CombineArgs {
    Pool pool;
    float* out;  // [images, pitch]
    int pitch, rows;
};

// grid: (images, pitch / 256)
KERNEL(combine, CombineArgs, 256) {
    int image = block_x(), channel = block_y() * 256 + thread_index(), pixels = args.pool.image;
    if (channel >= args.pitch) return;
    i64 first = static_cast<i64>(image) * pixels, last = first + pixels - 1;
    float sum = 0.0f;
    for (i64 tile = first / args.rows; tile <= last / args.rows; tile++) {
        i64 segment = image - tile * args.rows / pixels;
        sum = add(sum, args.pool.sums[(tile * args.pool.segments + segment) * args.pitch + channel]);
    }
    args.out[static_cast<i64>(image) * args.pitch + channel] = divide(sum, static_cast<float>(pixels));
}
