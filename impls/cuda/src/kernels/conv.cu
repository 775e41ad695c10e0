// A convolution, or the sum of two: implicit GEMM with everything that follows it.
#include "tile.cuh"

struct ConvArgs {
    Source sources[2];
    Extent extent;
    const float* init;  // [pixels, pitch], the sums to begin with; null: zeros
    float* partial;     // [splits, pixels, pitch], where the depth is split among blocks
    int count;          // sources
    int splits;
    Pool pool;          // for the mean over the result; not where the depth is split
    Epilogue epilogue;
};

// grid: (pixels / BM, outputs / BN, splits)
KERNEL(conv, ConvArgs, THREADS) {
    const Epilogue& e = args.epilogue;
    int first_pixel = block_x() * BM, first_output = block_y() * BN;
    Sums sums;
    UNROLL for (int mi = 0; mi < MI; mi++) {
        UNROLL for (int ni = 0; ni < NI; ni++) {
            UNROLL for (int i = 0; i < 4; i++) {
                int pixel = first_pixel + sum_row(mi, i), output = first_output + sum_column(ni, i);
                bool begins = args.init && block_z() == 0 && pixel < args.extent.pixels && output < e.pitch;
                sums.v[mi][ni][i] = begins ? args.init[static_cast<i64>(pixel) * e.pitch + output] : 0.0f;
            }
        }
    }
    int steps = steps_of(args.sources[0]);
    int all = steps + (args.count > 1 ? steps_of(args.sources[1]) : 0);
    int share = divide_up(all, args.splits), first = block_z() * share;
    int last = first + share < all ? first + share : all;
    if (first < steps)
        accumulate<GATED>(sums, args.sources[0], args.extent, first_pixel, first_output, first,
                          last < steps ? last : steps);
    if (last > steps)
        accumulate<GATED>(sums, args.sources[1], args.extent, first_pixel, first_output,
                          first > steps ? first - steps : 0, last - steps);
    each_row(sums, args.extent, e.pitch, first_pixel, first_output,
             [&](const Values& v, int pixel, int channel) {
                 if (args.splits > 1) {
                     i64 row = static_cast<i64>(block_z()) * args.extent.pixels + pixel;
                     store_wide(args.partial + row * e.pitch + channel, v);
                     return v;
                 }
                 return finish(e, v, pixel, channel);
             });
    if (args.pool.sums) pool_rows(args.pool, args.extent, e.pitch, first_pixel, first_output);
}
