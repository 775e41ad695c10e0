// The reduction of a split-K convolution: adds the partial sums of conv.cu in the order of the splits and
// applies the epilogue.
//
//   out[pixel, c] = epilogue(partial[0, pixel, c] + partial[1, pixel, c] + ...)
//
// With splits = 1 it applies the rest of an epilogue to values in memory. This is how a run continues after
// an observer has replaced the value after an epilogue stage (Epilogue::from_stage).
//
// Layout:  partial [splits, pixels, pitch] in float32, the result as in Epilogue (epilogue.cuh)
// Grid:    one thread for VEC channels of one pixel; blocks of 256 threads
// Shared:  VEC floats for each thread
// Where a block is a number of whole pixels, it can sum them for the average pool over the result.
#include "epilogue.cuh"
#include "tile_sums.cuh"

struct SplitKReduceArgs {
    const float* partial;
    int splits, pixels;
    TileSums tile_sums;  // for the average pool, in tiles of 256 * VEC / pitch pixels
    Epilogue epilogue;
};

DEVICE Values reduce(const SplitKReduceArgs& args, int pixel, int channel) {
    int pitch = args.epilogue.pitch;
    const float* from = args.partial + static_cast<i64>(pixel) * pitch + channel;
    Values sums = load_wide(from);
    for (int split = 1; split < args.splits; split++) {
        Values part = load_wide(from + static_cast<i64>(split) * args.pixels * pitch);
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = add(sums.v[i], part.v[i]);
    }
    return apply_epilogue(args.epilogue, sums, pixel, channel);
}

KERNEL(split_k_reduce, SplitKReduceArgs, 256) {
    wait_for_earlier_kernels();
    int pitch = args.epilogue.pitch, vectors = pitch / VEC, at = block_x() * 256 + thread_index();
    float* shared = reinterpret_cast<float*>(shared_memory());
    if (at < args.pixels * vectors) {
        Values result = reduce(args, at / vectors, at % vectors * VEC);
        if (args.tile_sums.sums) store_wide(shared + thread_index() * VEC, result);
    }
    if (!args.tile_sums.sums) return;
    sync_threads();
    int tile_pixels = 256 / vectors, first = block_x() * tile_pixels;
    int rows = args.pixels - first < tile_pixels ? args.pixels - first : tile_pixels;
    for (int channel = thread_index(); channel < pitch; channel += 256)
        sum_tile_channel(args.tile_sums, pitch, block_x(), first, rows, channel,
                         [&](int row) { return shared[row * pitch + channel]; });
}
