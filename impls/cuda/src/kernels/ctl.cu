// The end of a channel-time learning block in one kernel: short(x) and the last convolution of the
// global branch in two sets of sums, their product through the sigmoid, and on top of it the temporal
// convolution of the gated input. Only the block's output reaches memory.
//
// The arithmetic is that of three runs of conv.cu, operation for operation, so the bits are the same.
#include "tile.cuh"

struct CtlArgs {
    Source short_conv;
    Source glo_out;
    Source temporal;
    Extent extent;
    const float* short_bias;    // [pitch]
    const float* glo_out_bias;  // [pitch]
    Epilogue epilogue;
};

// grid: (pixels / BM, outputs / BN)
KERNEL(ctl, CtlArgs, THREADS) {
    int first_pixel = block_x() * BM, first_output = block_y() * BN;
    Sums sums = {}, global = {};
    accumulate<false>(global, args.glo_out, args.extent, first_pixel, first_output, 0,
                      steps_of(args.glo_out));
    accumulate<false>(sums, args.short_conv, args.extent, first_pixel, first_output, 0,
                      steps_of(args.short_conv));
    UNROLL for (int ni = 0; ni < NI; ni++) {
        UNROLL for (int i = 0; i < 2; i++) {
            int output = first_output + sum_column(ni, i);
            bool there = output < args.epilogue.pitch;
            float short_bias = there ? args.short_bias[output] : 0.0f;
            float global_bias = there ? args.glo_out_bias[output] : 0.0f;
            UNROLL for (int mi = 0; mi < MI; mi++) {
                UNROLL for (int half = 0; half < 2; half++) {
                    float& sum = sums.v[mi][ni][half * 2 + i];
                    float gate = sigmoid(add(global.v[mi][ni][half * 2 + i], global_bias));
                    sum = mul(gate, add(sum, short_bias));
                }
            }
        }
    }
    accumulate<GATED>(sums, args.temporal, args.extent, first_pixel, first_output, 0,
                      steps_of(args.temporal));
    each_row(sums, args.extent, args.epilogue.pitch, first_pixel, first_output,
             [&](const Values& v, int pixel, int channel) {
                 return finish(args.epilogue, v, pixel, channel);
             });
}
