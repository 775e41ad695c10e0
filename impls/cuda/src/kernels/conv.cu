// A convolution, or the sum of two convolutions, as an implicit GEMM: rows of the im2col matrix are gathered
// from the input maps and never stored.
//
//   out[m, n] = epilogue(init[m, n] + sum over sources s and k of im2col(x_s)[m, k] * weights_s[n, k])
//
// Shapes:  M = pixels of the result over all images, N = outputs, K = kernel * kernel * pitch of each source
// Layout:  x and weights as in Source (loader.cuh), the result as in Epilogue (epilogue.cuh)
// Grid:    (M / BM, pitch / BN, splits), rounded up; blocks of THREADS threads
// Shared:  SLOTS slots of (BM + BN) rows of 128 bytes; the epilogue uses the same memory for BM rows of
//          OUT_PITCH floats. Behind both, the places of the BM rows (loader.cuh)
// Split K: with splits > 1, block z sums one part of K. Without `partial`, the blocks of a tile are a cluster, which
//          adds the parts; otherwise they are stored there without an epilogue, and split_k_reduce.cu adds them
//          and applies it. The bits are the same
#include "tile.cuh"

struct ConvArgs {
    Source sources[2];
    Extent extent;
    const float* init;   // [pixels, pitch], initial values of the accumulators; null: zeros
    float* partial;      // [splits, pixels, pitch], where splits > 1; null: in a cluster
    int source_count;    // 1 or 2
    int splits;
    TileSums tile_sums;  // for the average pool over the result; not used where there is `partial`
    Epilogue epilogue;
};

// Reads the initial values of the accumulators.
DEVICE void load_initial(Accumulators& acc, const ConvArgs& args, int first_pixel, int first_output) {
    UNROLL for (int mi = 0; mi < MI; mi++) {
        UNROLL for (int ni = 0; ni < NI; ni++) {
            UNROLL for (int i = 0; i < 4; i++) {
                int pixel = first_pixel + acc_row(mi, i), output = first_output + acc_column(ni, i);
                if (pixel < args.extent.pixels && output < args.epilogue.pitch)
                    acc.v[mi][ni][i] = args.init[static_cast<i64>(pixel) * args.epilogue.pitch + output];
            }
        }
    }
}

KERNEL(conv, ConvArgs, THREADS) {
    const Epilogue& e = args.epilogue;
    int first_pixel = block_x() * BM, first_output = block_y() * BN;
    find_places(args.extent, first_pixel);
    wait_for_earlier_kernels();
    if (args.splits == 1) prefetch_residual(e, args.extent, first_pixel, first_output);
    Accumulators acc = {};
    // A cluster adds them last, as ctl_cluster.cu does.
    if (args.init && block_z() == 0 && (args.splits == 1 || args.partial)) load_initial(acc, args, first_pixel, first_output);
    // Steps of K are counted through both sources; this block takes first..last of them.
    int steps = steps_of(args.sources[0]);
    int total = steps + (args.source_count > 1 ? steps_of(args.sources[1]) : 0);
    int share = divide_up(total, args.splits), first = block_z() * share;
    int last = first + share < total ? first + share : total;
    if (first < steps)
        accumulate<GATED>(acc, args.sources[0], args.extent.outputs, first_output, first,
                          last < steps ? last : steps);
    if (last > steps)
        accumulate<GATED>(acc, args.sources[1], args.extent.outputs, first_output,
                          first > steps ? first - steps : 0, last - steps);
    Part part(args.extent, e.pitch, first_pixel, first_output);
    if (args.splits > 1) {
        stage(acc, reinterpret_cast<float*>(shared_memory()));
        if (!args.partial)
            return store_in_cluster(e, args.init, args.extent, args.tile_sums, args.splits, first_pixel, first_output);
        sync_threads();
        for_each_vector(part, [&](const Values& v, int pixel, int channel) {
            i64 row = static_cast<i64>(block_z()) * args.extent.pixels + pixel;
            store_wide(args.partial + row * e.pitch + channel, v);
            return v;
        });
        return;
    }
    store_tile(e, acc, part, args.tile_sums.sums);
    if (args.tile_sums.sums) store_tile_sums(args.tile_sums, args.extent, e.pitch, first_pixel, first_output);
}
