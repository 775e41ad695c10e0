// The global average pool over a map, in one pass.
//
//   out[n, c] = (sum over pixels p of x[n, p, c]) / pixels
//
// Layout:  x [images, pixels, pitch] in the storage format, out [images, pitch] in float32
// Grid:    (images, pitch / VEC / LANES), rounded up; blocks of 256 threads
// Shared:  VEC floats for each thread
// A block takes LANES vectors of VEC channels of one image. SHARES threads share the pixels of each vector,
// and a tree adds their sums in shared memory, in an order that does not depend on the schedule.
#include "device.cuh"

struct AveragePoolArgs {
    const T* x;
    float* out;
    int pixels, pitch;  // pixels of one image
};

constexpr int LANES = 8, SHARES = 256 / LANES;
static_assert(SHARED_BYTES >= SHARES * LANES * VEC * 4, "shared memory must hold VEC sums of each thread");

KERNEL(average_pool, AveragePoolArgs, 256) {
    wait_for_earlier_kernels();
    int lane = thread_index() % LANES, share = thread_index() / LANES, image = block_x();
    int channel = (block_y() * LANES + lane) * VEC;
    bool exists = channel < args.pitch;
    Values sums = {};
    const T* from = args.x + static_cast<i64>(image) * args.pixels * args.pitch + channel;
    for (int pixel = share; exists && pixel < args.pixels; pixel += SHARES) {
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
    if (exists && share == 0) {
        UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = divide(sums.v[i], static_cast<float>(args.pixels));
        store_wide(args.out + static_cast<i64>(image) * args.pitch + channel, sums);
    }
}
