// The stem on sm_90a: a 5x5 convolution with stride 2 and padding 2 that reads the planes of the clip itself, so
// that no map of the clip is stored.
//
//   out[n, y, x, o] = epilogue(sum over p, ky, kx of clip[n, p, 2 y + ky - 2, 2 x + kx - 2] * weights[o, p, ky, kx])
//
// A tile is TILE_ROWS rows of some pixels of the result. A band has 16 planes of what the windows of a tile cover, in
// groups of 2x2 pixels: a row of 128 bytes in shared memory is a group, and a quarter of it is one of its pixels
// with its 16 planes. So the operand of pixel (ky, kx) of the window is a quarter of the rows from
// ky / 2 * pitch + kx / 2 on, as in bands.cuh. Products have pixels as rows and outputs as columns; those for the
// border between rows of a band are computed and not stored.
//
// A block has two warpgroups that multiply, for two rows of the result each, and two that make bands: they read
// planes, round, and write the groups. While one band is made, others are multiplied. Bands and all weights are in
// shared memory, so that a block reads the weights once for all its tiles.
//
// K runs over bands, window pixels, and the 16 planes of a band, which are one step. The weights are stored in this
// order, four steps in a row of shared memory.
//
// Layout:  clip f32 [images, planes, height, width] with even height and width, weights [outputs, K] as a tensor map
// Grid:    as many blocks as work at a time; blocks of 512 threads work through all tiles
// Shared:  `bands` bands, the weights, the barriers
// Variants: with SUMS the epilogue is left to split_k_reduce.cu, so that an observer can see its stages; otherwise it
//          is a short one
#include "epilogue.cuh"
#include "hopper.cuh"

constexpr int THREADS = 512;
constexpr int MULTIPLIERS = 256;                    // the threads that multiply; the others make bands
constexpr int SIDE = 5;                             // of the window
constexpr int PLANES = 16;                          // of a band
constexpr int OUTPUTS = 64;                         // of a product
constexpr int TILE_ROWS = 4;                        // of the result
constexpr int PART_ROWS = 2;                        // of a warpgroup
constexpr int BAND_ROWS = TILE_ROWS + 2;            // of groups
constexpr int BAND_BYTES = 192 * ROW_BYTES;         // with room for what products read behind the last group
constexpr int STEPS_PER_ROW = 4;
constexpr int WEIGHT_BYTES = OUTPUTS * ROW_BYTES;   // four steps of all outputs
constexpr int MOST_BANDS = 3;

struct HopperStemArgs {
    TensorMap weights;       // [outputs, K], boxes of a row of 64 values for OUTPUTS outputs
    const float* clip;       // [images, planes, height, width]
    float* sums;             // [pixels, pitch], for SUMS
    int planes;              // of an image
    int height, width;       // of the result; the clip's are twice as large
    int bands, weight_rows;  // a quarter of the steps of K, rounded up
    int tiles, across, down; // all; those along a row; along the height of an image
    int tile_width;          // pixels of the result in a row of a tile
    int pitch;               // groups in a row of a band: tile_width + 2
    Epilogue epilogue;
    u64 unused[3];           // alignment
};

// Where a tile begins.
struct StemTile {
    int x, y, image;

    DEVICE_MEMBER StemTile(const HopperStemArgs& a, int tile) {
        x = tile % a.across * a.tile_width;
        y = tile / a.across % a.down * TILE_ROWS;
        image = tile / a.across / a.down;
    }
};

DEVICE u8* band_memory(int band) { return shared_memory() + band * BAND_BYTES; }
DEVICE u8* weight_memory(const HopperStemArgs& a) { return band_memory(a.bands); }

// The barriers, each 8 bytes.
struct Barriers {
    u64* first;

    DEVICE_MEMBER explicit Barriers(const HopperStemArgs& a)
        : first(reinterpret_cast<u64*>(weight_memory(a) + a.weight_rows * WEIGHT_BYTES)) {}
    DEVICE_MEMBER u64* weights() const { return first; }
    DEVICE_MEMBER u64* full(int band) const { return first + 1 + band; }
    DEVICE_MEMBER u64* empty(int band) const { return first + 1 + MOST_BANDS + band; }
};

// Arrives at a barrier for the warp.
DEVICE void arrive_for_warp(u64* barrier) {
    sync_warp();
    if (thread_index() % 32 == 0) barrier_arrive(barrier);
}

// Two neighbouring pixels of a plane.
struct alignas(8) Pair {
    float v[2];
};

// The threads that make bands. Each makes eight planes of the upper or the lower two pixels of some groups: of every
// 64th one.
DEVICE void make_bands(const Barriers& barriers, const HopperStemArgs& a) {
    constexpr int EACH = BAND_BYTES / ROW_BYTES / 64;  // groups
    int maker = thread_index() - MULTIPLIERS, eight = maker / 64 % 2, line = maker / 128;
    int height = 2 * a.height, width = 2 * a.width, plane_size = height * width;
    int y[EACH], x[EACH];
    UNROLL for (int i = 0; i < EACH; i++) {
        int group = maker % 64 + i * 64;
        y[i] = group / a.pitch;
        x[i] = group % a.pitch;
    }
    int parity = 0;
    for (int tile = block_x(); tile < a.tiles; tile += blocks_x()) {
        StemTile at(a, tile);
        ROLLED for (int band = 0; band < a.bands; band++) {
            // The loads stand before the wait, so that they are under way while the last band here is multiplied.
            Pair pixels[EACH][VEC];
            int first_plane = band * PLANES + eight * VEC;
            UNROLL for (int i = 0; i < EACH; i++) {
                int row = 2 * (at.y + y[i] - 1) + line, column = 2 * (at.x + x[i] - 1);
                bool inside = y[i] < BAND_ROWS && static_cast<u32>(row) < static_cast<u32>(height) &&
                              static_cast<u32>(column) < static_cast<u32>(width);
                const float* from = a.clip;
                if (inside)
                    from += (static_cast<i64>(at.image) * a.planes + first_plane) * plane_size + row * width + column;
                UNROLL for (int p = 0; p < VEC; p++) {
                    pixels[i][p] = Pair{};
                    if (inside && first_plane + p < a.planes)
                        pixels[i][p] = *reinterpret_cast<const Pair*>(from + static_cast<i64>(p) * plane_size);
                }
            }
            barrier_wait(barriers.empty(band), parity ^ 1);
            UNROLL for (int i = 0; i < EACH; i++) {
                int group = maker % 64 + i * 64;
                UNROLL for (int odd = 0; odd < 2; odd++) {
                    int chunk = (line * 2 + odd) * 2 + eight;
                    Values v;
                    UNROLL for (int p = 0; p < VEC; p++) v.v[p] = pixels[i][p].v[odd];
                    u8* to = band_memory(band) + group * ROW_BYTES + (chunk ^ (group & 7)) * 16;
                    store_shared(to, pack(v), y[i] < BAND_ROWS);
                }
            }
            fence_for_async();
            arrive_for_warp(barriers.full(band));
        }
        parity ^= 1;
    }
}

// The accumulators of a thread: of 8 outputs each time, two of pixel lane / 4 of the warp's 16 and two of the pixel
// that is 8 further.
using Accumulators = float[1][OUTPUTS / 2];

// Adds the products of a tile. Returns when the accumulators may be used. All threads of both warpgroups that
// multiply must call it.
DEVICE void accumulate(Accumulators& acc, const Barriers& barriers, const HopperStemArgs& a, int parity) {
    u32 weights = shared_address(weight_memory(a));
    u32 part = shared_address(band_memory(0)) + thread_index() / 128 * PART_ROWS * a.pitch * ROW_BYTES;
    int step = 0;
    ROLLED for (int band = 0; band < a.bands; band++) {
        barrier_wait(barriers.full(band), parity);
        ROLLED for (int ky = 0; ky < SIDE; ky++) {
            u32 line = part + band * BAND_BYTES + ky / 2 * a.pitch * ROW_BYTES + ky % 2 * 64;
            products_fence();
            UNROLL for (int kx = 0; kx < SIDE; kx++) {
                u64 pixels = operand(line + kx / 2 * ROW_BYTES + kx % 2 * 32);
                u64 these = operand(weights + step / STEPS_PER_ROW * WEIGHT_BYTES + step % STEPS_PER_ROW * 32);
                start_product<OUTPUTS>(acc[0], pixels, these, step > 0);
                step++;
            }
            commit_products();
            wait_products<1>(acc);
            // All products of the band before this one have ended.
            if (ky == 0 && band > 0) arrive_for_warp(barriers.empty(band - 1));
        }
    }
    wait_products<0>(acc);
    arrive_for_warp(barriers.empty(a.bands - 1));
}

// Eight neighbouring outputs of a pixel. Four lanes hold two each of 32 outputs; they exchange them so that each has
// eight. `later` says of which of the thread's two pixels, `half` of which 32 outputs.
DEVICE Values exchange(const Accumulators& acc, int later, int half) {
    int lane = thread_index() % 4;
    float v[4][2];  // at first by 8 outputs, then by the lane that had them
    UNROLL for (int i = 0; i < 8; i++) v[i / 2][i % 2] = acc[0][(half * 4 + i / 2) * 4 + later * 2 + i % 2];
    UNROLL for (int bit = 1; bit < 4; bit *= 2) {
        UNROLL for (int i = 0; i < 4; i++) {
            if (i & bit) continue;
            UNROLL for (int odd = 0; odd < 2; odd++) {
                float other = shuffle_xor(lane & bit ? v[i][odd] : v[i | bit][odd], bit);
                if (lane & bit)
                    v[i][odd] = other;
                else
                    v[i | bit][odd] = other;
            }
        }
    }
    Values out;
    UNROLL for (int i = 0; i < 8; i++) out.v[i] = v[i / 2][i % 2];
    return out;
}

// The end of a warpgroup's part of a tile, which begins at `at`. Every thread has eight outputs of the pixels
// (x[later], y[later]) at a time. The epilogue is a short one.
DEVICE void store_part(const Accumulators& acc, const HopperStemArgs& a, const StemTile& at, const int (&x)[2],
                       const int (&y)[2]) {
    const Epilogue& e = a.epilogue;
    UNROLL for (int half = 0; half < 2; half++) {
        int channel = half * 32 + thread_index() % 4 * VEC;
        bool stored = channel < e.pitch;
        Terms terms = {};
        if (!SUMS && stored) terms = load_terms(e, channel);
        UNROLL for (int later = 0; later < 2; later++) {
            Values v = exchange(acc, later, half);
            bool exists = stored && x[later] < a.tile_width && at.x + x[later] < a.width && y[later] < PART_ROWS &&
                          at.y + y[later] < a.height;
            int pixel = exists ? (at.image * a.height + at.y + y[later]) * a.width + at.x + x[later] : 0;
            i64 to = static_cast<i64>(pixel) * e.pitch + channel;
            if (!SUMS)
                store_global(static_cast<T*>(e.out) + to, apply_short<false>(e, terms, v, uint4{}), exists);
            else if (exists)
                store_wide(a.sums + to, v);
        }
    }
}

KERNEL(hopper_stem, HopperStemArgs, THREADS) {
    Barriers barriers(args);
    if (thread_index() == 0) {
        barrier_init(barriers.weights(), 1);
        for (int band = 0; band < args.bands; band++) {
            barrier_init(barriers.full(band), (THREADS - MULTIPLIERS) / 32);
            barrier_init(barriers.empty(band), MULTIPLIERS / 32);
        }
        barrier_init_fence();
    }
    sync_threads();
    if (thread_index() == 0) {
        // The weights are constant, so this need not wait for earlier kernels.
        barrier_expect(barriers.weights(), args.weight_rows * WEIGHT_BYTES);
        for (int row = 0; row < args.weight_rows; row++)
            load_box(weight_memory(args) + row * WEIGHT_BYTES, &args.weights, row * 64, 0, 0, 0, barriers.weights());
    }
    wait_for_earlier_kernels();
    if (thread_index() >= MULTIPLIERS) return make_bands(barriers, args);
    int lane = thread_index() % 32, parity = 0, x[2], y[2];
    UNROLL for (int later = 0; later < 2; later++) {
        int row = thread_index() / 32 % 4 * 16 + later * 8 + lane / 4;
        x[later] = row % args.pitch;
        y[later] = row / args.pitch;
    }
    barrier_wait(barriers.weights(), 0);
    for (int tile = block_x(); tile < args.tiles; tile += blocks_x()) {
        Accumulators acc;
        accumulate(acc, barriers, args, parity);
        parity ^= 1;
        StemTile at(args, tile);
        at.y += thread_index() / 128 * PART_ROWS;
        store_part(acc, args, at, x, y);
    }
}
