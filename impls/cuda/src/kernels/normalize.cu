// Decoded frames [N, T, H, W, 3] of bytes to the network's input [N, 3, T, H, W]: (x - mean) / std, a true
// division in float32.
#include "device.cuh"

struct NormalizeArgs {
    const u8* rgb;
    float* clip;
    float mean[3], std[3];
    int images, frames, pixels, unused;  // pixels of a frame
};

// grid: images * frames * pixels / 256
KERNEL(normalize, NormalizeArgs, 256) {
    i64 at = static_cast<i64>(block_x()) * 256 + thread_index();
    if (at >= static_cast<i64>(args.images) * args.frames * args.pixels) return;
    i64 frame = at / args.pixels, place = at % args.pixels;
    i64 image = frame / args.frames, time = frame % args.frames;
    UNROLL for (int colour = 0; colour < 3; colour++) {
        float x = static_cast<float>(args.rgb[at * 3 + colour]);
        i64 plane = (image * 3 + colour) * args.frames + time;
        args.clip[plane * args.pixels + place] = divide(add(x, -args.mean[colour]), args.std[colour]);
    }
}
