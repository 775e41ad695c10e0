// Takes sums that lie in memory through an epilogue: those of a convolution whose depth was split among
// blocks, in the order of the splits, or a value that an observer has put in place of another.
#include "epilogue.cuh"

struct FinishArgs {
    const float* partial;  // [splits, pixels, pitch]
    int splits, pixels;
    Epilogue epilogue;
};

// grid: pixels * pitch / VEC threads
KERNEL(finish_sums, FinishArgs, 256) {
    const Epilogue& e = args.epilogue;
    int vectors = e.pitch / VEC, at = block_x() * 256 + thread_index();
    if (at >= args.pixels * vectors) return;
    int pixel = at / vectors, channel = at % vectors * VEC;
    const float* from = args.partial + static_cast<i64>(pixel) * e.pitch + channel;
    Values sums = load_wide(from);
    for (int split = 1; split < args.splits; split++) {
        Values more = load_wide(from + static_cast<i64>(split) * args.pixels * e.pitch);
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = add(sums.v[i], more.v[i]);
    }
    finish(e, sums, pixel, channel);
}
