// The last 1x1 convolution of a bottleneck and the first of the next one in one kernel on sm_90a, so that the wide map
// between them is stored, for the residual of the next bottleneck, but not read again.
//
//   wide[pixel, o] = epilogue(sum over sources s and k of x_s[pixel, k] * weights_s[o, k])
//   out[pixel, o] = epilogue(sum over k of wide[pixel, k] * reduce[o, k])
//
// A tile is COLUMNS pixels. The first warpgroup makes 64 channels of the wide map at a time, a chunk. It puts them into
// a stage: memory from which they are stored, and from which the second warpgroup multiplies them, which has the sums of
// all outputs of the tile in registers. Meanwhile the first makes the next chunk in another stage. One thread of each
// warp of the third warpgroup loads the bands, loads the weights, asks for residuals, which land in the stage in which
// their chunk is put, and stores the chunks. Where all weights fit, they are loaded once.
//
// Both sums run over K in the order of hopper_conv.cu, and the second reads what the first has stored, so the bits are
// those of two kernels.
//
// Layout:  maps [pixels, pitch] and weights [outputs, K] as tensor maps
// Grid:    as many blocks as work at a time; blocks of 384 threads work through all tiles
// Shared:  barriers, slots of weights of both convolutions, slots of bands, stages, results
#include "results.cuh"

constexpr int CHUNK_BYTES = COLUMNS * ROW_BYTES;  // 64 channels of a tile
constexpr int EXPAND_BYTES = 64 * ROW_BYTES;      // weights of the first convolution; those of the second: WEIGHT_BYTES
constexpr int MOST_PAIR_SLOTS = 16;               // of a ring
constexpr int PAIR_BARRIERS = 9 * MOST_PAIR_SLOTS;
constexpr int PAIR_SLOTS_AT = 2048;
constexpr int WARPS = 4;                          // of a warpgroup
// The threads of the third warpgroup that have work, one in each warp.
constexpr int LOADS_BANDS = 256, LOADS_WEIGHTS = 288, LOADS_RESIDUALS = 320, STORES_CHUNKS = 352;
static_assert(PAIR_BARRIERS * 8 <= PAIR_SLOTS_AT, "the barriers must end before the slots");

struct HopperPairArgs {
    BandSource sources[2];     // of the first convolution, boxes of COLUMNS pixels and of 64 outputs
    TensorMap reduce_weights;  // [outputs, K], boxes of 64 values for TILE_OUTPUTS outputs
    TensorMap wide, residual, out;  // boxes of COLUMNS pixels
    Bands bands;               // one row of pixels
    int source_count, has_residual;
    int chunks;                // of the wide map
    int blocks;                // of 64 channels in all sources
    int band_slots, expand_slots, reduce_slots, stages;
    int resident;              // whether there are slots for all weights
    int unused;                // alignment
    Epilogue expand, reduce;
    TileSums tile_sums;        // of `out`, in tiles of SUM_PIXELS
    u64 unused_too;            // alignment
};

// A ring of slots in shared memory, with a barrier for what fills a slot and one for what has read it.
struct Slots {
    u8* memory;
    u64* barriers;
    int bytes, count;

    DEVICE_MEMBER u8* at(int slot) const { return memory + slot * bytes; }
    DEVICE_MEMBER u8* end() const { return at(count); }
    DEVICE_MEMBER u64* full(int slot) const { return barriers + slot; }
    DEVICE_MEMBER u64* empty(int slot) const { return barriers + MOST_PAIR_SLOTS + slot; }

    DEVICE_MEMBER void init(int writers, int readers) const {
        for (int slot = 0; slot < count; slot++) {
            barrier_init(full(slot), writers);
            barrier_init(empty(slot), readers);
        }
    }
    // Waits until a slot may be filled, and announces its bytes at `filled`.
    DEVICE_MEMBER void await(const Ring& ring, u64* filled) const {
        barrier_wait(empty(ring.slot), ring.parity ^ 1);
        barrier_expect(filled, bytes);
    }
};

// Where everything lies in shared memory.
struct PairMemory {
    Slots expand, reduce, bands, stages;

    DEVICE_MEMBER explicit PairMemory(const HopperPairArgs& a) {
        u64* barriers = reinterpret_cast<u64*>(shared_memory());
        expand = {shared_memory() + PAIR_SLOTS_AT, barriers, EXPAND_BYTES, a.expand_slots};
        reduce = {expand.end(), barriers + 2 * MOST_PAIR_SLOTS, WEIGHT_BYTES, a.reduce_slots};
        bands = {reduce.end(), barriers + 4 * MOST_PAIR_SLOTS, CHUNK_BYTES, a.band_slots};
        stages = {bands.end(), barriers + 6 * MOST_PAIR_SLOTS, CHUNK_BYTES, a.stages};
    }
    // The end of a residual's load.
    DEVICE_MEMBER u64* landed(int stage) const { return stages.barriers + 2 * MOST_PAIR_SLOTS + stage; }
    DEVICE_MEMBER u8* results(int group) const { return stages.end() + group * CHUNK_BYTES; }

    DEVICE_MEMBER void init() const {
        expand.init(1, WARPS);
        reduce.init(1, WARPS);
        bands.init(1, WARPS);
        stages.init(WARPS, WARPS + 1);  // read by the second warpgroup and by the store
        for (int stage = 0; stage < stages.count; stage++) barrier_init(landed(stage), 1);
        barrier_init_fence();
    }
};

// Calls act(source, its first channel) for every 64 channels of the sources.
template <class Act>
DEVICE void for_each_block(const HopperPairArgs& a, Act act) {
    for (int i = 0; i < a.source_count; i++)
        for (int first = 0; first < a.sources[i].channels; first += CHUNK) act(a.sources[i], first);
}

// Calls act(first pixel of a tile, chunk) for every chunk of the block's tiles.
template <class Act>
DEVICE void for_each_chunk(const HopperPairArgs& a, Act act) {
    ROLLED for (int tile = block_x(); tile < a.bands.tiles; tile += blocks_x())
        ROLLED for (int chunk = 0; chunk < a.chunks; chunk++) act(tile * COLUMNS, chunk);
}

DEVICE void load_tiles(const PairMemory& m, const HopperPairArgs& a) {
    Ring ring(a.band_slots);
    for (int tile = block_x(); tile < a.bands.tiles; tile += blocks_x())
        for_each_block(a, [&](const BandSource& source, int first) {
            u64* full = m.bands.full(ring.slot);
            m.bands.await(ring, full);
            load_box(m.bands.at(ring.slot), &source.pixels, first, tile * COLUMNS, 0, 0, full);
            ring.advance();
        });
}

DEVICE void load_both_weights(const PairMemory& m, const HopperPairArgs& a) {
    Ring expand(a.expand_slots), reduce(a.reduce_slots);
    for_each_chunk(a, [&](int pixel, int chunk) {
        if (a.resident && pixel != block_x() * COLUMNS) return;
        for_each_block(a, [&](const BandSource& source, int first) {
            u64* full = m.expand.full(expand.slot);
            m.expand.await(expand, full);
            load_box(m.expand.at(expand.slot), &source.weights, first, chunk * CHUNK, 0, 0, full);
            expand.advance();
        });
        u64* full = m.reduce.full(reduce.slot);
        m.reduce.await(reduce, full);
        load_box(m.reduce.at(reduce.slot), &a.reduce_weights, chunk * CHUNK, 0, 0, 0, full);
        reduce.advance();
    });
}

DEVICE void load_residuals(const PairMemory& m, const HopperPairArgs& a) {
    Ring ring(a.stages);
    for_each_chunk(a, [&](int pixel, int chunk) {
        u64* landed = m.landed(ring.slot);
        m.stages.await(ring, landed);
        load_box(m.stages.at(ring.slot), &a.residual, chunk * CHUNK, pixel, 0, 0, landed);
        ring.advance();
    });
}

DEVICE void store_chunks(const PairMemory& m, const HopperPairArgs& a) {
    Ring ring(a.stages);
    for_each_chunk(a, [&](int pixel, int chunk) {
        barrier_wait(m.stages.full(ring.slot), ring.parity);
        store_box(&a.wide, chunk * CHUNK, pixel, 0, 0, m.stages.at(ring.slot));
        store_box_commit();
        store_box_wait();
        barrier_arrive(m.stages.empty(ring.slot));
        ring.advance();
    });
}

// Starts the products of 64 rows of weights and the pixels of a tile, over 64 values of K.
DEVICE void multiply(float (&sums)[COLUMNS / 2], const u8* weights, const u8* pixels, bool add) {
    u64 these = operand(shared_address(weights)), those = operand(shared_address(pixels));
    UNROLL for (int i = 0; i < STEPS_PER_ROW; i++)
        start_product<COLUMNS>(sums, these + i * (STEP * 2 / 16), those + i * (STEP * 2 / 16), add || i > 0);
}

// The first warpgroup: the chunks of the wide map.
DEVICE void make_chunks(const PairMemory& m, const HopperPairArgs& a) {
    Member w;
    Ring bands(a.band_slots), weights(a.expand_slots), stage(a.stages);
    for_each_chunk(a, [&](int pixel, int chunk) {
        BandTile part(a.bands, pixel / COLUMNS);
        part.output = chunk * CHUNK;
        Linear linear(a.expand, w, part);
        Accumulators acc;
        bool last = chunk + 1 == a.chunks;
        Ring band = bands;  // all chunks of a tile multiply the same bands
        ROLLED for (int block = 0; block < a.blocks; block++) {
            barrier_wait(m.bands.full(band.slot), band.parity);
            barrier_wait(m.expand.full(weights.slot), a.resident ? 0 : weights.parity);
            products_fence();
            multiply(acc[0], m.expand.at(weights.slot), m.bands.at(band.slot), block > 0);
            commit_products();
            wait_products<0>(acc);
            w.release(m.expand.empty(weights.slot));
            if (last) w.release(m.bands.empty(band.slot));
            weights.advance();
            band.advance();
        }
        if (last) bands = band;
        if (a.has_residual)
            barrier_wait(m.landed(stage.slot), stage.parity);
        else
            barrier_wait(m.stages.empty(stage.slot), stage.parity ^ 1);
        put_results_at(m.stages.at(stage.slot), acc, linear, w, a.bands, part, a.expand, a.has_residual);
        fence_for_async();
        sync_warp();
        w.release(m.stages.full(stage.slot));
        stage.advance();
    });
}

// The end of a tile of the second warpgroup. Output groups take the place of warpgroups in results.cuh.
DEVICE void store_tile(Accumulators (&acc)[OUTPUT_GROUPS], const PairMemory& m, const HopperPairArgs& a, int tile) {
    Member w;
    BandTile part(a.bands, tile);
    bool first = thread_index() % 128 == 0;
    if (first) store_box_wait();
    named_barrier<1, 128>();
    UNROLL for (int group = 0; group < OUTPUT_GROUPS; group++) {
        w.group = group;
        Linear linear(a.reduce, w, part);
        put_results_at(m.results(group), acc[group], linear, w, a.bands, part, a.reduce, false);
    }
    fence_for_async();
    named_barrier<1, 128>();
    for (w.group = 0; w.group < OUTPUT_GROUPS; w.group++) {
        if (first) store_box(&a.out, w.group * 64, part.x, 0, 0, m.results(w.group));
        if (a.tile_sums.sums) store_band_sums(a.tile_sums, m.results(w.group), w, a.bands, part, a.reduce.pitch);
    }
    if (first) store_box_commit();
}

// The second warpgroup: the next convolution of the chunks.
DEVICE void multiply_chunks(const PairMemory& m, const HopperPairArgs& a) {
    Member w;
    Ring weights(a.reduce_slots), stage(a.stages);
    ROLLED for (int tile = block_x(); tile < a.bands.tiles; tile += blocks_x()) {
        Accumulators acc[OUTPUT_GROUPS];
        ROLLED for (int chunk = 0; chunk < a.chunks; chunk++) {
            barrier_wait(m.stages.full(stage.slot), stage.parity);
            barrier_wait(m.reduce.full(weights.slot), a.resident ? 0 : weights.parity);
            products_fence();
            UNROLL for (int group = 0; group < OUTPUT_GROUPS; group++)
                multiply(acc[group][0], m.reduce.at(weights.slot) + group * EXPAND_BYTES, m.stages.at(stage.slot),
                         chunk > 0);
            commit_products();
            UNROLL for (int group = 0; group < OUTPUT_GROUPS; group++) wait_products<0>(acc[group]);
            w.release(m.stages.empty(stage.slot));
            w.release(m.reduce.empty(weights.slot));
            stage.advance();
            weights.advance();
        }
        store_tile(acc, m, a, tile);
    }
    store_box_wait();
}

KERNEL(hopper_pair, HopperPairArgs, THREADS) {
    PairMemory memory(args);
    if (thread_index() == 0) memory.init();
    sync_threads();
    int thread = thread_index();
    if (thread < 256) {
        take_registers<224>();
        wait_for_earlier_kernels();
        return thread < 128 ? make_chunks(memory, args) : multiply_chunks(memory, args);
    }
    give_registers<56>();
    // Weights are constant, so the loads that wait for nobody need not wait for earlier kernels.
    if (thread == LOADS_WEIGHTS && args.resident) load_both_weights(memory, args);
    wait_for_earlier_kernels();
    if (thread == LOADS_BANDS) load_tiles(memory, args);
    if (thread == LOADS_WEIGHTS && !args.resident) load_both_weights(memory, args);
    if (thread == LOADS_RESIDUALS && args.has_residual) load_residuals(memory, args);
    if (thread == STORES_CHUNKS) store_chunks(memory, args);
}
