// The end of a channel-time learning (CTL) block in one kernel on sm_90a (bands.cuh). Only the result reaches
// global memory.
//
//   out = epilogue((short(x) + short_bias) * sigmoid(glo_out(m) + glo_out_bias) + temporal(gated x))
//
// where x is the input of the block, m the 16-channel map in the middle of the global branch, short and
// glo_out are 3x3 convolutions and temporal is a 1x1 convolution.
//
// Layout, grid, shared: as hopper_conv.cu
// The sigmoid is kept in half precision, two values in a register, because a second set of accumulators does not fit.
// The separate steps round it in the same way (SIGMOID_HALF in epilogue.cuh), so the bits are the same.
#include "results.cuh"

struct HopperCtlArgs {
    BandSource sources[3];      // glo_out, short, temporal
    TensorMap out;              // boxes of a warpgroup's part of a tile
    TensorMap residual;         // the same
    Bands bands;
    int has_residual, unused_int;
    const float* short_bias;    // [pitch]
    const float* glo_out_bias;  // [pitch]
    Epilogue epilogue;
    u64 unused[3];
};

KERNEL(hopper_ctl, HopperCtlArgs, THREADS) {
    Barriers barriers;
    start_block(barriers, args.bands);
    wait_for_earlier_kernels();
    if (thread_index() >= 256) {
        load(barriers, args.sources, 3, args.bands);
        return;
    }
    take_registers<224>();
    const Epilogue& e = args.epilogue;
    const Bands& b = args.bands;
    Worker w(b);
    int parity = 0;
    for (int tile = block_x(); tile < b.tiles; tile += blocks_x()) {
        BandTile part = part_of(w, b, BandTile(b, tile));
        if (args.has_residual) ask_for_residual(w, b, part, &args.residual);
        Accumulators acc;
        float (&sums)[COLUMNS / 2] = acc[0], short_bias[2] = {}, glo_out_bias[2] = {};
        u32 gate[COLUMNS / 4];
        UNROLL for (int half = 0; half < 2; half++) {
            int channel = part.output + channel_of(w, half);
            if (channel < e.pitch) {
                short_bias[half] = args.short_bias[channel];
                glo_out_bias[half] = args.glo_out_bias[channel];
            }
        }
        accumulate(acc, w, args.sources[0], b, false);
        UNROLL for (int i = 0; i < COLUMNS / 4; i++)
            gate[i] = sigmoid_halves(add(sums[2 * i], glo_out_bias[i % 2]), add(sums[2 * i + 1], glo_out_bias[i % 2]));
        accumulate(acc, w, args.sources[1], b, false);
        // In the other order the assembler spills two registers.
        UNROLL for (int i = COLUMNS / 4 - 1; i >= 0; i--) {
            sums[2 * i] = mul(low_half(gate[i]), add(sums[2 * i], short_bias[i % 2]));
            sums[2 * i + 1] = mul(high_half(gate[i]), add(sums[2 * i + 1], short_bias[i % 2]));
        }
        accumulate(acc, w, args.sources[2], b, true);
        put_results(acc, w, b, part, e, args.has_residual, parity);
        store_results(w, part, &args.out);
        parity ^= 1;
    }
    store_box_wait();
}
