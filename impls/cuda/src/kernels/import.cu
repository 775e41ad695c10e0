// The network's input as the map that the stem reads: float32 planes to channels-last pixels in the storage
// format.
//
// Layout:  clip [images, planes, pixels] with planes = 3 * frames, out [images, pixels, pitch]; channels from
//          `planes` to `pitch` become zeros
// Grid:    (images * pixels / 256, pitch / VEC), rounded up; blocks of 256 threads, each of which writes VEC
//          channels of one pixel
// Shared:  none
#include "device.cuh"

struct ImportArgs {
    const float* clip;
    T* out;
    int images, pixels, planes, pitch;  // pixels of one image
};

KERNEL(import, ImportArgs, 256) {
    int at = block_x() * 256 + thread_index(), channel = block_y() * VEC;
    if (at >= args.images * args.pixels) return;
    i64 image = at / args.pixels, in_image = at % args.pixels;
    Values v;
    UNROLL for (int i = 0; i < VEC; i++) {
        int plane = channel + i;
        i64 from = (image * args.planes + plane) * args.pixels + in_image;
        v.v[i] = plane < args.planes ? args.clip[from] : 0.0f;
    }
    store(args.out + static_cast<i64>(at) * args.pitch + channel, v);
}
