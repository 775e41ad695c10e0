// A dense layer on a vector for each image, in float32: the gate and the classifier. A warp computes one
// output of IMAGES images, so that a row of weights is read once for all of them.
#include "epilogue.cuh"

struct DenseArgs {
    const float* x;        // [images, in_pitch]
    const float* weights;  // [outputs, inputs]
    const float* scale;    // [outputs] or null
    const float* bias;     // [outputs] or null
    float* out;            // [images, out_pitch], zeros beyond the outputs
    float* see[2];         // the value after LINEAR and after ACTIVATION; null: unseen
    int images, inputs, in_pitch, outputs, out_pitch, activation;
};

constexpr int IMAGES = 4;

DEVICE float result(const DenseArgs& args, float sum, int output, i64 at) {
    float bias = args.bias ? args.bias[output] : 0.0f;
    float v = args.scale ? fma_(sum, args.scale[output], bias) : add(sum, bias);
    if (args.see[0]) args.see[0][at] = v;
    v = activate(args.activation, v);
    if (args.see[1]) args.see[1][at] = v;
    return v;
}

// grid: (out_pitch / 8, images / IMAGES)
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
    UNROLL for (int i = 0; i < IMAGES; i++) {
        for (int mask = 16; mask > 0; mask /= 2) sums[i] = add(sums[i], shuffle_xor(sums[i], mask));
        if (lane == 0 && first + i < args.images && output < args.out_pitch) {
            i64 at = static_cast<i64>(first + i) * args.out_pitch + output;
            args.out[at] = output < args.outputs ? result(args, sums[i], output, at) : 0.0f;
        }
    }
}
