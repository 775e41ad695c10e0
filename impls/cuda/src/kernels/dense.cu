// A dense layer on one vector for each image, in float32: the two layers of the gate, and the classifier.
//
//   out[n, o] = activation((sum over i of x[n, i] * weights[o, i]) * scale[o] + bias[o])
//
// Shapes:  n = images, o = outputs, i = inputs
// Grid:    (out_pitch / 8, images / IMAGES), rounded up; blocks of 256 threads
// Shared:  none
// Each of the 8 warps of a block computes one output of IMAGES images, so that a row of weights is read once
// for IMAGES images. Lane l sums inputs l, l + 32, ...; a butterfly of shuffles adds the 32 partial sums.
#include "epilogue.cuh"

struct DenseArgs {
    const float* x;        // [images, in_pitch]
    const float* weights;  // [outputs, inputs]
    const float* scale;    // [outputs] or null
    const float* bias;     // [outputs] or null
    float* out;            // [images, out_pitch], zeros from channel `outputs` on
    float* observed[2];    // [images, out_pitch] after LINEAR and after ACTIVATION; null: not observed
    int images, inputs, in_pitch, outputs, out_pitch, activation;
};

constexpr int IMAGES = 16;

DEVICE float result(const DenseArgs& args, float sum, int output, i64 at) {
    float bias = args.bias ? args.bias[output] : 0.0f;
    float v = args.scale ? fma_(sum, args.scale[output], bias) : add(sum, bias);
    if (args.observed[0]) args.observed[0][at] = v;
    v = activate(args.activation, v);
    if (args.observed[1]) args.observed[1][at] = v;
    return v;
}

KERNEL(dense, DenseArgs, 256) {
    int lane = thread_index() % 32, output = block_x() * 8 + thread_index() / 32;
    int first = block_y() * IMAGES;
    float sums[IMAGES] = {};
    for (int k = lane; k < args.inputs && output < args.outputs; k += 32) {
        float weight = args.weights[static_cast<i64>(output) * args.inputs + k];
        UNROLL for (int i = 0; i < IMAGES; i++) {
            if (first + i < args.images)
                sums[i] = fma_(args.x[static_cast<i64>(first + i) * args.in_pitch + k], weight, sums[i]);
        }
    }
    // The bound is the same for all lanes of a warp, as the shuffles need it.
    UNROLL for (int i = 0; i < IMAGES; i++) {
        if (first + i >= args.images) break;
        for (int mask = 16; mask > 0; mask /= 2) sums[i] = add(sums[i], shuffle_xor(sums[i], mask));
        if (lane == 0 && output < args.out_pitch) {
            i64 at = static_cast<i64>(first + i) * args.out_pitch + output;
            args.out[at] = output < args.outputs ? result(args, sums[i], output, at) : 0.0f;
        }
    }
}
