// The ReLU and the max-pool after the stem: windows of 3x3 with stride 2 and padding 1.
//
//   out[n, y, x, c] = epilogue(max(0, in[n, 2 y - 1 .. 2 y + 1, 2 x - 1 .. 2 x + 1, c]))
//
// The maximum starts at 0, which is the ReLU and also makes the padding neutral. A NaN in the window makes
// the result NaN.
//
// Layout:  in [images, height, width, pitch], out [images, out_height, out_width, pitch] with the same pitch
// Grid:    one thread for VEC channels of one output pixel; blocks of 256 threads
// Shared:  none
#include "epilogue.cuh"

struct MaxPoolArgs {
    const T* x;  // [images, height, width, pitch]
    int images, height, width, out_height, out_width, unused;
    Epilogue epilogue;
};

KERNEL(maxpool, MaxPoolArgs, 256) {
    wait_for_earlier_kernels();
    const Epilogue& e = args.epilogue;
    int vectors = e.pitch / VEC, at = block_x() * 256 + thread_index();
    int image_pixels = args.out_height * args.out_width, pixels = args.images * image_pixels;
    if (at >= pixels * vectors) return;
    int pixel = at / vectors, channel = at % vectors * VEC;
    int image = pixel / image_pixels, in_image = pixel % image_pixels;
    int top = in_image / args.out_width * 2 - 1, left = in_image % args.out_width * 2 - 1;
    Values maximum = {};
    for (int y = top < 0 ? 0 : top; y < top + 3 && y < args.height; y++) {
        for (int x = left < 0 ? 0 : left; x < left + 3 && x < args.width; x++) {
            i64 from = (static_cast<i64>(image) * args.height + y) * args.width + x;
            Values v = load(args.x + from * e.pitch + channel);
            UNROLL for (int i = 0; i < VEC; i++) {
                if (!(v.v[i] <= maximum.v[i]))
                    maximum.v[i] = maximum.v[i] != maximum.v[i] ? maximum.v[i] : v.v[i];
            }
        }
    }
    apply_epilogue(e, maximum, pixel, channel);
}
