// A clip [N, 3 T, H, W] in float32 to channels-last pixels [N, H, W, pitch].
#include "device.cuh"

struct ImportArgs {
    const float* clip;
    T* out;
    int images, pixels, planes, pitch;
};

// grid: (images * pixels / 256, pitch / VEC)
KERNEL(import, ImportArgs, 256) {
    int at = block_x() * 256 + thread_index(), channel = block_y() * VEC;
    if (at >= args.images * args.pixels) return;
    i64 image = at / args.pixels, place = at % args.pixels;
    Values v;
    UNROLL for (int i = 0; i < VEC; i++) {
        int plane = channel + i;
        v.v[i] = plane < args.planes ? args.clip[(image * args.planes + plane) * args.pixels + place] : 0.0f;
    }
    store(args.out + static_cast<i64>(at) * args.pitch + channel, v);
}
