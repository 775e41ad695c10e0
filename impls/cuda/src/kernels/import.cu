// The network's input as the map that the stem reads: float32 planes to channels-last pixels in the storage
// format.
//
// Layout:  clip [images, planes, pixels] with planes = 3 * frames, out [images, height / group, width / group,
//          group, group, pitch], where a convolution of stride 2 in bands needs groups of 2 (windows.rs); channels
//          from `planes` to `pitch` become zeros
// Grid:    images * pixels / 256, rounded up; blocks of 256 threads, each of which writes one pixel
// Shared:  none
// A warp reads 32 neighbouring pixels of each plane. A thread writes its pixel from the first channel to the
// last, so that the parts of a cache line are written soon after each other; spread over blocks they would
// reach the memory one by one.
#include "device.cuh"

struct ImportArgs {
    const float* clip;
    T* out;
    int images, pixels, planes, pitch;  // pixels of one image
    int width, group;
};

// Vectors that are read before the first of them is written: a sector of 32 bytes for half formats.
constexpr int VECTORS = 2;

KERNEL(import, ImportArgs, 256) {
    wait_for_earlier_kernels();
    int at = block_x() * 256 + thread_index();
    if (at >= args.images * args.pixels) return;
    i64 image = at / args.pixels, in_image = at % args.pixels;
    const float* from = args.clip + image * args.planes * args.pixels + in_image;
    i64 place = at;
    if (args.group == 2) {
        int line = at / args.width, x = at % args.width;
        place = (static_cast<i64>(line / 2) * (args.width / 2) + x / 2) * 4 + line % 2 * 2 + x % 2;
    }
    T* to = args.out + place * args.pitch;
    for (int first = 0; first < args.pitch; first += VECTORS * VEC) {
        Values v[VECTORS];
        UNROLL for (int i = 0; i < VECTORS * VEC; i++) {
            i64 plane = first + i;
            v[i / VEC].v[i % VEC] = plane < args.planes ? from[plane * args.pixels] : 0.0f;
        }
        UNROLL for (int i = 0; i < VECTORS; i++) {
            if (first + i * VEC < args.pitch) store(to + first + i * VEC, v[i]);
        }
    }
}
