// A convolution, or the sum of some, on sm_90a (bands.cuh). One of stride 2 is the sum of four (windows.rs).
//
//   out[pixel, o] = epilogue(init[pixel, o] + sum over sources s and k of window(x_s)[pixel, k] * weights_s[o, k])
//
// Layout:  maps [images, height, width, pitch] and weights as tensor maps (BandSource); init and sums in float32
// Grid:    as many blocks as work at a time; blocks of 384 threads work through all tiles
// Shared:  as bands.cuh says
// Variants: with SUMS the epilogue is left to split_k_reduce.cu, so that an observer can see its stages, and the sums
// may start at `init`; with ADDEND the epilogue has an addend and no residual; with HALVED the result is not stored but
// halved as depthwise.cu does.
#include "results.cuh"

// A depthwise 2x2 convolution with stride 2 of the result, with HALVED.
struct Halving {
    const float* weights;  // [4, pitch]
    int width;             // of the result before it is halved
    int unused;            // alignment
    Epilogue epilogue;     // with the same pitch
};

struct HopperConvArgs {
    BandSource sources[4];
    TensorMap out;         // boxes of a warpgroup's part of a tile
    TensorMap residual;    // the same
    Bands bands;
    int source_count;      // 1 to 4
    int has_residual;
    const float* init;     // [pixels, pitch], initial values of the sums, for SUMS; null: zeros
    float* sums;           // [pixels, pitch], for SUMS
    TileSums tile_sums;    // in tiles of SUM_PIXELS; only for a map without a border
    Epilogue epilogue;
    u64 unused;            // alignment
    Halving halving;
};

// Halves the results of a warpgroup, with the operations of depthwise.cu. They are whole pairs of rows of the map.
// Each thread has one of the eight chunks of every 16th pixel.
DEVICE void store_halved(const Halving& h, const Worker& w, const Bands& b, const BandTile& part) {
    int thread = thread_index() % 128, chunk = thread % 8, pitch = h.epilogue.pitch, half = h.width / 2;
    int channel = part.output + (OUTPUT_GROUPS == 2 ? w.group * 64 : 0) + chunk * VEC;
    if (channel >= pitch) return;
    Values weights[4];
    UNROLL for (int corner = 0; corner < 4; corner++) weights[corner] = load_wide(h.weights + corner * pitch + channel);
    int rest = b.width - part.x, count = (rest < b.result_pixels ? rest : b.result_pixels) / 4;
    ROLLED for (int at = thread / 8; at < count; at += 16) {
        int first = at / half * 2 * h.width + at % half * 2;
        Values sums = {};
        UNROLL for (int corner = 0; corner < 4; corner++) {
            int row = first + corner / 2 * h.width + corner % 2;
            Values v = unpack(read_16(w.result() + row * ROW_BYTES + (chunk ^ (row & 7)) * 16));
            UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = fma_(v.v[i], weights[corner].v[i], sums.v[i]);
        }
        apply_epilogue(h.epilogue, sums, part.x / 4 + at, channel);
    }
}

KERNEL(hopper_conv, HopperConvArgs, THREADS) {
    Barriers barriers;
    start_block(barriers, args.bands);
    wait_for_earlier_kernels();
    if (thread_index() >= 256) {
        load(barriers, args.sources, args.source_count, args.bands);
        return;
    }
    take_registers<224>();
    const Epilogue& e = args.epilogue;
    const Bands& b = args.bands;
    Worker w(b);
    int parity = 0;
    for (int tile = block_x(); tile < b.tiles; tile += blocks_x()) {
        BandTile part = part_of(w, b, BandTile(b, tile));
        if (!SUMS && args.has_residual) ask_for_residual(w, b, part, &args.residual);
        Accumulators acc;
        if (SUMS && args.init) {
            UNROLL for (int i = 0; i < BLOCKS * BLOCK_COLUMNS / 2; i++)
                acc[i / (BLOCK_COLUMNS / 2)][i % (BLOCK_COLUMNS / 2)] = 0.0f;
            for_each_sum(acc, w, b, part, e.pitch, [&](float& v, const Place& place, int channel) {
                v = args.init[place.pixel(b, part) * e.pitch + channel];
            });
        }
        ROLLED for (int i = 0; i < args.source_count; i++)
            accumulate(acc, w, args.sources[i], b, i > 0 || (SUMS && args.init));
        if (SUMS) {
            for_each_sum(acc, w, b, part, e.pitch, [&](float v, const Place& place, int channel) {
                args.sums[place.pixel(b, part) * e.pitch + channel] = v;
            });
            continue;
        }
        put_results(acc, w, b, part, e, args.has_residual, parity);
        parity ^= 1;
        if (HALVED)
            store_halved(args.halving, w, b, part);
        else
            store_results(w, part, &args.out);
        if (args.tile_sums.sums) store_band_sums(args.tile_sums, w.result(), w, b, part, e.pitch);
        // The next residual may land here only when all have read.
        if (HALVED || args.tile_sums.sums) meet(w);
    }
    store_box_wait();
}
