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
// Shared:  none
#include "epilogue.cuh"

struct SplitKReduceArgs {
    const float* partial;
    int splits, pixels;
    Epilogue epilogue;
};

KERNEL(split_k_reduce, SplitKReduceArgs, 256) {
    const Epilogue& e = args.epilogue;
    int vectors = e.pitch / VEC, at = block_x() * 256 + thread_index();
    if (at >= args.pixels * vectors) return;
    int pixel = at / vectors, channel = at % vectors * VEC;
    const float* from = args.partial + static_cast<i64>(pixel) * e.pitch + channel;
    Values sums = load_wide(from);
    for (int split = 1; split < args.splits; split++) {
        Values part = load_wide(from + static_cast<i64>(split) * args.pixels * e.pitch);
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = add(sums.v[i], part.v[i]);
    }
    apply_epilogue(e, sums, pixel, channel);
}
