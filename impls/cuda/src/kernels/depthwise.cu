// Depthwise 2x2 convolution with stride 2 and no padding, which halves a map between stages of the network.
//
//   out[n, y, x, c] = epilogue(sum over i, j in {0, 1} of in[n, 2 y + i, 2 x + j, c] * weights[2 i + j, c])
//
// Layout:  in [images, height, width, pitch], out [images, out_height, out_width, pitch] with the same pitch
// Grid:    one thread for VEC channels of one output pixel; blocks of 256 threads
// Shared:  none
#include "epilogue.cuh"

struct DepthwiseArgs {
    const T* x;            // [images, height, width, pitch]
    const float* weights;  // [4, pitch]
    int images, height, width, out_height, out_width, unused;
    Epilogue epilogue;
};

KERNEL(depthwise, DepthwiseArgs, 256) {
    wait_for_earlier_kernels();
    const Epilogue& e = args.epilogue;
    int vectors = e.pitch / VEC, at = block_x() * 256 + thread_index();
    int image_pixels = args.out_height * args.out_width, pixels = args.images * image_pixels;
    if (at >= pixels * vectors) return;
    int pixel = at / vectors, channel = at % vectors * VEC;
    int image = pixel / image_pixels, in_image = pixel % image_pixels;
    int y = in_image / args.out_width * 2, x = in_image % args.out_width * 2;
    Values sums = {};
    UNROLL for (int corner = 0; corner < 4; corner++) {
        i64 from = (static_cast<i64>(image) * args.height + y + corner / 2) * args.width + x + corner % 2;
        Values v = load(args.x + from * e.pitch + channel);
        Values w = load_wide(args.weights + corner * e.pitch + channel);
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = fma_(v.v[i], w.v[i], sums.v[i]);
    }
    apply_epilogue(e, sums, pixel, channel);
}
