// A map multiplied by its gate, where a kernel that reads it does not apply gates itself.
//
//   out[n, pixel, c] = x[n, pixel, c] * gate[n, c], rounded to the storage format
//
// Layout:  x and out [images, pixels, pitch] in the storage format, gate [images, pitch] in float32
// Grid:    one thread for VEC channels of one pixel; blocks of 256 threads
// Shared:  none
#include "device.cuh"

struct ScaleArgs {
    const T* x;
    const float* gate;
    T* out;
    int images, image_pixels, pitch, unused;
};

KERNEL(scale, ScaleArgs, 256) {
    wait_for_earlier_kernels();
    int vectors = args.pitch / VEC, at = block_x() * 256 + thread_index();
    if (at >= args.images * args.image_pixels * vectors) return;
    int pixel = at / vectors, channel = at % vectors * VEC;
    i64 from = static_cast<i64>(pixel) * args.pitch + channel;
    Values v = load(args.x + from);
    Values gate = load_wide(args.gate + static_cast<i64>(pixel / args.image_pixels) * args.pitch + channel);
    UNROLL for (int i = 0; i < VEC; i++) v.v[i] = mul(v.v[i], gate.v[i]);
    store(args.out + from, v);
}
