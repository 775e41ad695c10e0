// Max-pool 3x3 of stride 2, padding 1, over ReLU(x). A NaN in the window is the result.
#include "epilogue.cuh"

struct MaxPoolArgs {
    const T* x;  // [images, height, width, pitch]
    int images, height, width, out_height, out_width, unused;
    Epilogue epilogue;
};

// grid: pixels * pitch / VEC threads
KERNEL(maxpool, MaxPoolArgs, 256) {
    const Epilogue& e = args.epilogue;
    int vectors = e.pitch / VEC, at = block_x() * 256 + thread_index();
    int pixels = args.images * args.out_height * args.out_width;
    if (at >= pixels * vectors) return;
    int pixel = at / vectors, channel = at % vectors * VEC;
    int image = pixel / (args.out_height * args.out_width), place = pixel % (args.out_height * args.out_width);
    int top = place / args.out_width * 2 - 1, left = place % args.out_width * 2 - 1;
    Values most = {};
    for (int y = top < 0 ? 0 : top; y < top + 3 && y < args.height; y++) {
        for (int x = left < 0 ? 0 : left; x < left + 3 && x < args.width; x++) {
            i64 from = (static_cast<i64>(image) * args.height + y) * args.width + x;
            Values v = load(args.x + from * e.pitch + channel);
            UNROLL for (int i = 0; i < VEC; i++) {
                if (!(v.v[i] <= most.v[i])) most.v[i] = most.v[i] != most.v[i] ? most.v[i] : v.v[i];
            }
        }
    }
    finish(e, most, pixel, channel);
}
