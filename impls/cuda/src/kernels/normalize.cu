// Decoded frames to the network's input: out = (x - mean) / std for each colour, with a true division in
// float32.
//
// Layout:  rgb [images, frames, pixels, 3] in bytes, clip [images, 3, frames, pixels] in float32
// Grid:    one thread for each pixel of each frame; blocks of 256 threads
// Shared:  none
#include "device.cuh"

struct NormalizeArgs {
    const u8* rgb;
    float* clip;
    float mean[3], std[3];               // of red, green and blue, in the units of a byte
    int images, frames, pixels, unused;  // pixels of one frame
};

KERNEL(normalize, NormalizeArgs, 256) {
    wait_for_earlier_kernels();
    i64 at = static_cast<i64>(block_x()) * 256 + thread_index();
    if (at >= static_cast<i64>(args.images) * args.frames * args.pixels) return;
    i64 frame = at / args.pixels, in_frame = at % args.pixels;
    i64 image = frame / args.frames, time = frame % args.frames;
    UNROLL for (int colour = 0; colour < 3; colour++) {
        float x = static_cast<float>(args.rgb[at * 3 + colour]);
        i64 plane = (image * 3 + colour) * args.frames + time;
        args.clip[plane * args.pixels + in_frame] = divide(add(x, -args.mean[colour]), args.std[colour]);
    }
}
