// Depthwise convolution 2x2 of stride 2 without padding.
#include "epilogue.cuh"

struct DepthwiseArgs {
    const T* x;            // [images, height, width, pitch]
    const float* weights;  // [4, pitch]
    int images, height, width, out_height, out_width, unused;
    Epilogue epilogue;
};

// grid: pixels * pitch / VEC threads
KERNEL(depthwise, DepthwiseArgs, 256) {
    const Epilogue& e = args.epilogue;
    int vectors = e.pitch / VEC, at = block_x() * 256 + thread_index();
    int pixels = args.images * args.out_height * args.out_width;
    if (at >= pixels * vectors) return;
    int pixel = at / vectors, channel = at % vectors * VEC;
    int image = pixel / (args.out_height * args.out_width), place = pixel % (args.out_height * args.out_width);
    int y = place / args.out_width * 2, x = place % args.out_width * 2;
    Values sums = {};
    UNROLL for (int tap = 0; tap < 4; tap++) {
        i64 from = (static_cast<i64>(image) * args.height + y + tap / 2) * args.width + x + tap % 2;
        Values v = load(args.x + from * e.pitch + channel);
        Values w = load_wide(args.weights + tap * e.pitch + channel);
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = fma_(v.v[i], w.v[i], sums.v[i]);
    }
    finish(e, sums, pixel, channel);
}
