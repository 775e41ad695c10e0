// The mean over a map, in float32. A block takes VEC * LANES channels of an image: LANES threads side by
// side, and 256 / LANES of them share the pixels, then a tree adds them up.
#include "device.cuh"

struct MeanArgs {
    const T* x;  // [images, pixels, pitch]
    float* out;  // [images, pitch]
    int pixels, pitch;
};

constexpr int LANES = 8, SHARES = 256 / LANES;
static_assert(SHARED_BYTES >= SHARES * LANES * VEC * 4, "room");

// grid: (images, pitch / VEC / LANES)
KERNEL(mean, MeanArgs, 256) {
    int lane = thread_index() % LANES, share = thread_index() / LANES, image = block_x();
    int channel = (block_y() * LANES + lane) * VEC;
    bool there = channel < args.pitch;
    Values sums = {};
    const T* from = args.x + static_cast<i64>(image) * args.pixels * args.pitch + channel;
    for (int pixel = share; there && pixel < args.pixels; pixel += SHARES) {
        Values v = load(from + static_cast<i64>(pixel) * args.pitch);
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = add(sums.v[i], v.v[i]);
    }
    float* shared = reinterpret_cast<float*>(shared_memory());
    for (int half = SHARES / 2; half > 0; half /= 2) {
        if (share < 2 * half) store_wide(shared + thread_index() * VEC, sums);
        sync_threads();
        if (share < half) {
            Values other = load_wide(shared + (thread_index() + half * LANES) * VEC);
            UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = add(sums.v[i], other.v[i]);
        }
        sync_threads();
    }
    if (there && share == 0) {
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = divide(sums.v[i], static_cast<float>(args.pixels));
        store_wide(args.out + static_cast<i64>(image) * args.pitch + channel, sums);
    }
}
