// A dense layer on one vector for each image, in float32: the two layers of the gate, and the classifier.
//
//   out[n, o] = activation((sum over i of x[n, i] * weights[o, i]) * scale[o] + bias[o])
//
// x is a vector in memory, or the mean of a map: then the kernel is the second pass of an average pool as well,
// and makes x from the sums of the map's tiles (tile_sums.cuh). That costs less than a launch in between.
//
// Where the result is a gate, the kernel can also multiply a map by it, as scale.cu does:
//
//   product[n, pixel, o] = map[n, pixel, o] * out[n, o], rounded to the storage format
//
// Shapes:  n = images, o = outputs, i = inputs
// Grid:    (out_pitch / outputs of a block, images / images of a block, parts), rounded up; blocks of 256 threads.
//          The blocks of all parts compute the same outputs, and multiply the pixels in turn
// Shared:  x of the images of the block, CHUNK inputs at a time
// A warp sums OUTPUTS outputs for the IMAGES images of its block, so that it reads a row of weights once for all
// of them. Lane l sums inputs 4 l to 4 l + 3, then those 128 further on, and so forth; a butterfly adds the
// lanes. So the order of a sum, and its bits, do not depend on IMAGES, which the host chooses (dense.rs).
#include "epilogue.cuh"
#include "tile_sums.cuh"

struct DenseArgs {
    const float* x;        // [images, in_pitch], zeros in padded channels; null: the means of a map
    TileSums tile_sums;    // the sums of that map's tiles, of `tile_pixels` pixels each
    float* means;          // [images, in_pitch], where the means are stored for an observer; null: nowhere
    const float* weights;  // [outputs of all blocks, in_pitch], zeros in padded channels and outputs
    const float* scale;    // [outputs] or null
    const float* bias;     // [outputs] or null
    float* out;            // [images, out_pitch], zeros from channel `outputs` on; null: not stored
    float* observed[2];    // [images, out_pitch] after LINEAR and after ACTIVATION; null: not observed
    const T* map;          // [images, map_pixels, out_pitch], whose gate the result is; null: none
    T* product;            // like the map
    int images, in_pitch, outputs, out_pitch, activation;
    int block_images;      // images of a block: 1 or 8
    int tile_pixels, map_pixels;
    int parts, unused;     // blocks along z
};

constexpr int WARPS = 8, STEP = 128;
// Lanes that share the tiles of each channel, and the channels that a warp then averages at a time. It has
// GROUPS * AHEAD loads under way: GROUPS times as many channels, AHEAD tiles for each share.
constexpr int SHARES = 4, CHANNELS = STEP / SHARES, GROUPS = 2, AHEAD = 4;

DEVICE Four read_four(const float* from) { return *reinterpret_cast<const Four*>(from); }

DEVICE int least(int a, int b) { return a < b ? a : b; }

// Adds COUNT values over the lanes whose numbers differ in the bits MASK, MASK / 2, ... above END, by a butterfly.
// At each bit a lane keeps one half of its values and gives away the other, until only one is left. Of two lanes
// the one with the bit set keeps the upper half.
template <int MASK, int END, int COUNT, int N>
DEVICE void add_lanes(float (&v)[N]) {
    if constexpr (MASK > END) {
        constexpr int HALF = COUNT / 2;
        bool upper = thread_index() & MASK;
        UNROLL for (int i = 0; i < HALF; i++) {
            float kept = upper ? v[HALF + i] : v[i], given = upper ? v[i] : v[HALF + i];
            v[i] = add(kept, shuffle_xor(given, MASK));
        }
        if constexpr (HALF == 0) v[0] = add(v[0], shuffle_xor(v[0], MASK));
        add_lanes<MASK / 2, END, HALF ? HALF : 1>(v);
    }
}

// The tiles that touch an image: the first and the last of them, and the segment of the image in the first.
struct Tiles {
    int first, last, segment;
};

DEVICE Tiles tiles_of(const DenseArgs& args, int image) {
    int pixels = args.tile_sums.image_pixels, pixel = image * pixels;
    int first = pixel / args.tile_pixels, last = (pixel + pixels - 1) / args.tile_pixels;
    // Only the first tile may begin in an earlier image.
    return {first, last, image - first * args.tile_pixels / pixels};
}

// Averages GROUPS groups of CHANNELS channels of an image, from `channel` on and `stride` apart, into `to`. Share s
// adds tiles s, s + SHARES, ..., and a butterfly adds the shares. What does not exist is read from elsewhere, as
// loads under a condition would wait for one another.
DEVICE void average(const DenseArgs& args, const Tiles& tiles, int image, int channel, int stride, int end,
                    float* to) {
    int share = thread_index() % 32 / (32 / SHARES), lane = thread_index() % (32 / SHARES) * 4;
    float sums[GROUPS][4] = {};
    ROLLED for (int first = tiles.first; first <= tiles.last; first += SHARES * AHEAD) {
        Four parts[AHEAD][GROUPS];
        UNROLL for (int a = 0; a < AHEAD; a++) {
            int tile = least(first + a * SHARES + share, tiles.last);
            int row = tile * args.tile_sums.segments + (tile > tiles.first ? 0 : tiles.segment);
            const float* from = args.tile_sums.sums + static_cast<i64>(row) * args.in_pitch;
            UNROLL for (int g = 0; g < GROUPS; g++)
                parts[a][g] = read_four(from + least(channel + g * stride + lane, end - 4));
        }
        // To add 0 changes no bit: a sum that began at +0 is never -0.
        UNROLL for (int a = 0; a < AHEAD; a++) {
            bool exists = first + a * SHARES + share <= tiles.last;
            UNROLL for (int g = 0; g < GROUPS; g++) {
                UNROLL for (int i = 0; i < 4; i++)
                    sums[g][i] = add(sums[g][i], exists ? parts[a][g].v[i] : 0.0f);
            }
        }
    }
    float reciprocal = divide(1.0f, static_cast<float>(args.tile_sums.image_pixels));
    UNROLL for (int g = 0; g < GROUPS; g++) {
        add_lanes<16, 4, 4>(sums[g]);
        int at = channel + g * stride + lane + share;
        float mean = mul(sums[g][0], reciprocal);
        if (at < end) to[at] = mean;
        if (at < end && args.means && block_x() == 0)
            args.means[static_cast<i64>(image) * args.in_pitch + at] = mean;
    }
}

// Fills shared memory with the inputs begin..end of the images of the block, `chunk` floats for each.
template <int IMAGES>
DEVICE void fill(const DenseArgs& args, float* shared, int chunk, int begin, int end) {
    // With one image all warps share it, with more each has its own.
    constexpr int SHARERS = IMAGES == 1 ? WARPS : 1;
    static_assert(IMAGES == 1 || IMAGES == WARPS, "a warp fills one image");
    int i = IMAGES == 1 ? 0 : warp_index(), part = IMAGES == 1 ? warp_index() : 0;
    int lane = thread_index() % 32, image = block_y() * IMAGES + i;
    if (image >= args.images) return;
    float* to = shared + i * chunk - begin;
    if (args.x) {
        const float* from = args.x + static_cast<i64>(image) * args.in_pitch;
        ROLLED for (int at = begin + part * STEP + 4 * lane; at < end; at += SHARERS * STEP)
            copy_async(to + at, from + at, true);
        return;
    }
    Tiles tiles = tiles_of(args, image);
    constexpr int STRIDE = SHARERS * CHANNELS;
    ROLLED for (int channel = begin + part * CHANNELS; channel < end; channel += GROUPS * STRIDE)
        average(args, tiles, image, channel, STRIDE, end, to);
}

// Stores an output, unless the block of another part does, and returns it.
DEVICE float store_result(const DenseArgs& args, float sum, int image, int output) {
    if (image >= args.images || output >= args.out_pitch) return 0.0f;
    i64 at = static_cast<i64>(image) * args.out_pitch + output;
    float v = 0.0f;
    if (output < args.outputs) {
        float bias = args.bias ? args.bias[output] : 0.0f;
        v = args.scale ? fma_(sum, args.scale[output], bias) : add(sum, bias);
        if (args.observed[0]) args.observed[0][at] = v;
        v = activate(args.activation, v);
        if (args.observed[1]) args.observed[1][at] = v;
    }
    if (args.out && block_z() == 0) args.out[at] = v;
    return v;
}

// Multiplies this block's part of the map by its outputs, `gates` [IMAGES, CHANNELS].
template <int IMAGES, int CHANNELS>
DEVICE void multiply_map(const DenseArgs& args, const float* gates) {
    constexpr int VECTORS = CHANNELS / VEC;
    int first_image = block_y() * IMAGES, images = least(args.images - first_image, IMAGES);
    int count = images * args.map_pixels * VECTORS;
    for (int at = block_z() * 256 + thread_index(); at < count; at += args.parts * 256) {
        int pixel = at / VECTORS, column = at % VECTORS * VEC, channel = block_x() * CHANNELS + column;
        if (channel >= args.out_pitch) continue;
        i64 from = (static_cast<i64>(first_image) * args.map_pixels + pixel) * args.out_pitch + channel;
        Values v = load(args.map + from);
        const float* gate = gates + pixel / args.map_pixels * CHANNELS + column;
        UNROLL for (int i = 0; i < VEC; i++) v.v[i] = mul(v.v[i], gate[i]);
        store(args.product + from, v);
    }
}

// Computes OUTPUTS outputs of IMAGES images with each warp. ROUND steps of weights are under way at a time; the
// first of them wait neither for x nor for earlier kernels.
template <int IMAGES, int OUTPUTS, int ROUND>
DEVICE void compute(const DenseArgs& args) {
    constexpr int CHUNK = SHARED_BYTES / 4 / IMAGES, SUMS = IMAGES * OUTPUTS;
    static_assert(CHUNK % (ROUND * STEP) == 0, "a chunk must be whole rounds of steps");
    float* x = reinterpret_cast<float*>(shared_memory());
    int lane = thread_index() % 32, output = (block_x() * WARPS + warp_index()) * OUTPUTS;
    Four weights[ROUND][OUTPUTS];
    const float* rows = args.weights + static_cast<i64>(output) * args.in_pitch;
    // The last weights of a row stand for those beyond it, which are not multiplied.
    auto load_weights = [&](Four(&to)[OUTPUTS], int input) {
        const float* from = rows + least(input, args.in_pitch - 4);
        UNROLL for (int o = 0; o < OUTPUTS; o++) to[o] = read_four(from + o * args.in_pitch);
    };
    if (args.outputs > 0) {
        UNROLL for (int a = 0; a < ROUND; a++) load_weights(weights[a], a * STEP + 4 * lane);
    }
    wait_for_earlier_kernels();
    float sums[SUMS] = {};
    ROLLED for (int begin = 0; begin < args.in_pitch; begin += CHUNK) {
        int end = least(begin + CHUNK, args.in_pitch);
        if (begin > 0) sync_threads();
        fill<IMAGES>(args, x, CHUNK, begin, end);
        if (args.outputs == 0) continue;
        commit();
        wait<0>();
        sync_threads();
        ROLLED for (int round = begin; round < end; round += ROUND * STEP) {
            UNROLL for (int a = 0; a < ROUND; a++) {
                int input = round + a * STEP + 4 * lane;
                if (input >= end) continue;
                UNROLL for (int i = 0; i < IMAGES; i++) {
                    Four values = read_four(x + i * CHUNK + input - begin);
                    UNROLL for (int o = 0; o < OUTPUTS; o++) {
                        UNROLL for (int j = 0; j < 4; j++)
                            sums[i * OUTPUTS + o] =
                                fma_(values.v[j], weights[a][o].v[j], sums[i * OUTPUTS + o]);
                    }
                }
                load_weights(weights[a], input + ROUND * STEP);
            }
        }
    }
    add_lanes<16, 0, SUMS>(sums);
    // What each lane has now, and how many lanes have the same.
    constexpr int KEPT = SUMS > 32 ? SUMS / 32 : 1, SAME = SUMS < 32 ? 32 / SUMS : 1;
    // Gates replace x when all warps are done with it.
    if (args.map) sync_threads();
    UNROLL for (int i = 0; i < KEPT; i++) {
        int at = lane / SAME * KEPT + i, column = warp_index() * OUTPUTS + at % OUTPUTS;
        if (lane % SAME != 0) continue;
        float v = store_result(args, sums[i], block_y() * IMAGES + at / OUTPUTS, output + at % OUTPUTS);
        if (args.map) x[at / OUTPUTS * WARPS * OUTPUTS + column] = v;
    }
    if (!args.map) return;
    sync_threads();
    multiply_map<IMAGES, WARPS * OUTPUTS>(args, x);
}

KERNEL(dense, DenseArgs, 256) {
    if (args.block_images == 8)
        compute<8, 4, 2>(args);
    else
        compute<1, 1, 4>(args);
}
