// The end of a channel-time learning (CTL) block in one kernel, as ctl.cu, for results of so few tiles that the
// blocks of a cluster share each of them.
//
//   out = epilogue(temporal(gate * x) + (short(x) + short_bias) * sigmoid(glo_out(m) + glo_out_bias))
//
// Shapes:  M = pixels over all images, N = outputs; all three convolutions keep the size of the map
// Layout:  x, m and weights as in Source (loader.cuh), the result as in Epilogue (epilogue.cuh)
// Grid:    (M / BM, pitch / BN, splits), rounded up; blocks of THREADS threads; clusters of `splits` blocks along z
// Shared:  the slots of conv.cu; behind them three parts of BM rows of OUT_PITCH floats; the places of the BM rows
// Each block sums a part of the K of each convolution, and then finishes its share of the rows of the tile.
//
// Each operation is the one that three launches of conv.cu perform with the same splits, in the same order, so the
// bits are the same.
#include "ctl.cuh"

struct CtlClusterArgs {
    CtlArgs block;
    int splits;  // 2, 4 or 8
    int unused;
};

constexpr int PARTS_AT = SLOTS * SLOT_BYTES, PART = BM * OUT_PITCH;
static_assert(PARTS_AT + 3 * PART * 4 <= PLACES_AT, "shared memory must hold the slots, three parts, and the places");

// Sums this block's part of the K of a convolution, and stages it.
template <bool Gate>
DEVICE void stage_part(const CtlClusterArgs& args, const Source& source, int first_output, float* to) {
    Accumulators acc = {};
    int total = steps_of(source), share = divide_up(total, args.splits), first = block_z() * share;
    if (first < total)
        accumulate<Gate>(acc, source, args.block.extent.outputs, first_output, first,
                         first + share < total ? first + share : total);
    stage(acc, to);
}

KERNEL(ctl_cluster, CtlClusterArgs, THREADS) {
    const Epilogue& e = args.block.epilogue;
    int first_pixel = block_x() * BM, first_output = block_y() * BN;
    float* parts = reinterpret_cast<float*>(shared_memory() + PARTS_AT);
    find_places(args.block.extent, first_pixel);
    wait_for_earlier_kernels();
    stage_part<false>(args, args.block.short_conv, first_output, parts);
    stage_part<false>(args, args.block.glo_out, first_output, parts + PART);
    stage_part<GATED>(args, args.block.temporal, first_output, parts + 2 * PART);
    sync_cluster();
    for_each_in_share(args.splits, args.block.extent, e.pitch, first_pixel, first_output, [&](const InTile& at) {
        const float* own = parts + at.row * OUT_PITCH + at.column;
        Values product = sum_of_peers(own, args.splits), gate = sum_of_peers(own + PART, args.splits);
        Values sums = sum_of_peers(own + 2 * PART, args.splits);
        Values short_bias = load_wide(args.block.short_bias + at.channel);
        Values gate_bias = load_wide(args.block.glo_out_bias + at.channel);
        UNROLL for (int i = 0; i < VEC; i++) {
            float factor = sigmoid(add(gate.v[i], gate_bias.v[i]));
            sums.v[i] = add(sums.v[i], mul(factor, add(product.v[i], short_bias.v[i])));
        }
        apply_epilogue(e, sums, at.pixel, at.channel);
    });
    sync_cluster();
}
