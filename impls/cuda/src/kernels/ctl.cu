// The end of a channel-time learning (CTL) block in one kernel. Only the result reaches global memory.
//
//   out = epilogue((short(x) + short_bias) * sigmoid(glo_out(m) + glo_out_bias) + temporal(gate * x))
//
// where x is the input of the block, m the 16-channel map in the middle of the global branch, short and
// glo_out are 3x3 convolutions and temporal is a 1x1 convolution.
//
// Shapes:  M = pixels over all images, N = outputs; all three convolutions keep the size of the map
// Layout:  x, m and weights as in Source (loader.cuh), the result as in Epilogue (epilogue.cuh)
// Grid:    (M / BM, pitch / BN), rounded up; blocks of THREADS threads
// Shared:  as conv.cu
// Registers hold two sets of accumulators: short and glo_out. After the sigmoid, the temporal convolution
// adds to the first set.
//
// Each operation is the one that three launches of conv.cu perform, in the same order, so the bits are the
// same.
#include "ctl.cuh"

KERNEL(ctl, CtlArgs, THREADS) {
    int first_pixel = block_x() * BM, first_output = block_y() * BN, outputs = args.extent.outputs;
    find_places(args.extent, first_pixel);
    wait_for_earlier_kernels();
    Accumulators acc = {}, global = {};
    accumulate<false>(global, args.glo_out, outputs, first_output, 0, steps_of(args.glo_out));
    accumulate<false>(acc, args.short_conv, outputs, first_output, 0, steps_of(args.short_conv));
    UNROLL for (int ni = 0; ni < NI; ni++) {
        UNROLL for (int i = 0; i < 2; i++) {
            int output = first_output + acc_column(ni, i);
            bool exists = output < args.epilogue.pitch;
            float short_bias = exists ? args.short_bias[output] : 0.0f;
            float global_bias = exists ? args.glo_out_bias[output] : 0.0f;
            UNROLL for (int mi = 0; mi < MI; mi++) {
                UNROLL for (int half = 0; half < 2; half++) {
                    float& sum = acc.v[mi][ni][half * 2 + i];
                    float gate = sigmoid(add(global.v[mi][ni][half * 2 + i], global_bias));
                    sum = mul(gate, add(sum, short_bias));
                }
            }
        }
    }
    accumulate<GATED>(acc, args.temporal, outputs, first_output, 0, steps_of(args.temporal));
    Part part(args.extent, args.epilogue.pitch, first_pixel, first_output);
    store_tile(args.epilogue, acc, part, false);
}
