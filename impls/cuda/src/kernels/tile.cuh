// The end of a tile: from accumulators in registers, by way of shared memory, to vectors of VEC channels that
// are stored with 16-byte accesses.
//
// Most epilogues are short (epilogue.cuh): what they do is decided once for the tile and not once for each
// vector, and the loads of their residual are under way while the tile passes through shared memory.
#pragma once
#include "epilogue.cuh"
#include "mainloop.cuh"
#include "tile_sums.cuh"

constexpr int OUT_PITCH = BN + 8;
static_assert(PLACES_AT >= BM * OUT_PITCH * 4, "shared memory must hold the tile as floats, and the places");

// Every thread has one column of vectors, in rows that are ROWS apart.
constexpr int VECTORS = BN / VEC;
constexpr int ROWS = THREADS / VECTORS;
constexpr int ROUNDS = BM / ROWS;
static_assert(THREADS % VECTORS == 0 && BM % ROWS == 0, "the rows of the tile must be divided evenly");

// Rounds whose residual a thread loads at a time, and rounds that it stores at a time.
constexpr int BATCH = ROUNDS < 16 ? ROUNDS : 16;
constexpr int GROUP = ROUNDS < 4 ? ROUNDS : 4;

// The part of the tile that a thread stores: VEC channels of `count` pixels that lie inside the result, in
// ROUNDS at most.
struct Part {
    int row, column;     // in the tile, of the first pixel
    int pixel, channel;  // in the result
    int count;

    DEVICE_MEMBER Part(const Extent& extent, int pitch, int first_pixel, int first_output) {
        row = thread_index() / VECTORS;
        column = thread_index() % VECTORS * VEC;
        pixel = first_pixel + row;
        channel = first_output + column;
        count = channel < pitch ? (extent.pixels - pixel + ROWS - 1) / ROWS : 0;
        if (count > ROUNDS) count = ROUNDS;
    }

    // Number of the vector of a round in a map like the result.
    DEVICE_MEMBER int vector(const Epilogue& e, int round) const {
        return (pixel + round * ROWS) * (e.pitch / VEC) + channel / VEC;
    }

    // Where the values of a round are in shared memory.
    DEVICE_MEMBER float* values(int round) const {
        float* shared = reinterpret_cast<float*>(shared_memory());
        return shared + (row + round * ROWS) * OUT_PITCH + column;
    }
};

struct alignas(8) Two {
    float v[2];
};

// Writes the accumulators to shared memory, [BM, OUT_PITCH]. Other threads see them behind a barrier.
DEVICE void stage(const Accumulators& acc, float* shared) {
    UNROLL for (int mi = 0; mi < MI; mi++) {
        UNROLL for (int half = 0; half < 2; half++) {
            float* row = shared + acc_row(mi, half * 2) * OUT_PITCH;
            UNROLL for (int ni = 0; ni < NI; ni++) {
                const float* v = acc.v[mi][ni] + half * 2;
                *reinterpret_cast<Two*>(row + acc_column(ni, 0)) = Two{{v[0], v[1]}};
            }
        }
    }
}

// Calls store(values, pixel, channel) for all vectors of a part, and leaves what it returns in shared
// memory.
template <class Store>
DEVICE void for_each_vector(const Part& part, Store store) {
    for (int round = 0; round < part.count; round++) {
        float* values = part.values(round);
        store_wide(values, store(load_wide(values), part.pixel + round * ROWS, part.channel));
    }
}

// Stores rounds first..first + GROUP of a part, whose residual is in `held`. Nothing but the choice to sum
// the results is a branch, so that the loads from shared memory are under way together.
template <bool RESIDUAL>
DEVICE void store_group(const Epilogue& e, const Terms& terms, const Part& part, const uint4* held, int first,
                        bool summed) {
    uint4 out[GROUP];
    UNROLL for (int i = 0; i < GROUP; i++) {
        out[i] = apply_short<RESIDUAL>(e, terms, load_wide(part.values(first + i)), held[RESIDUAL ? i : 0]);
        void* to = static_cast<uint4*>(e.out) + part.vector(e, first + i);
        store_global(to, out[i], first + i < part.count);
    }
    if (summed) {
        UNROLL for (int i = 0; i < GROUP; i++) store_wide(part.values(first + i), unpack(out[i]));
    }
}

// Applies a short epilogue to staged accumulators and stores the results, in shared memory, too, if they are
// to be summed there. Contains the barrier behind `stage`.
template <bool RESIDUAL>
DEVICE void store_short(const Epilogue& e, const Part& part, bool summed) {
    Terms terms = load_terms(e, part.channel < e.pitch ? part.channel : 0);
    if constexpr (!RESIDUAL) {
        uint4 none = {};
        sync_threads();
        for (int first = 0; first < ROUNDS; first += GROUP)
            store_group<false>(e, terms, part, &none, first, summed);
        return;
    }
    UNROLL for (int batch = 0; batch < ROUNDS; batch += BATCH) {
        uint4 held[BATCH] = {};
        const uint4* residual = reinterpret_cast<const uint4*>(e.residual);
        UNROLL for (int i = 0; i < BATCH; i++) {
            if (batch + i < part.count) held[i] = read_16(residual + part.vector(e, batch + i));
        }
        if (batch == 0) sync_threads();
        UNROLL for (int first = 0; first < BATCH; first += GROUP)
            store_group<true>(e, terms, part, held + first, batch + first, summed);
    }
}

// Applies the epilogue to the accumulators and stores the results. If they are to be summed, they are then in
// shared memory, for store_tile_sums.
DEVICE void store_tile(const Epilogue& e, const Accumulators& acc, const Part& part, bool summed) {
    stage(acc, reinterpret_cast<float*>(shared_memory()));
    if (is_short(e)) {
        if (e.residual)
            store_short<true>(e, part, summed);
        else
            store_short<false>(e, part, summed);
        return;
    }
    sync_threads();
    for_each_vector(part, [&](const Values& v, int pixel, int channel) {
        return apply_epilogue(e, v, pixel, channel);
    });
}

// Adds what N blocks of a cluster have at this place of their shared memory, in the order of the blocks.
template <int N>
DEVICE Values sum_of(const float* own) {
    Values parts[N];
    UNROLL for (int rank = 0; rank < N; rank++) {
        UNROLL for (int at = 0; at < VEC; at += 4) {
            uint4 chunk = read_peer(own + at, rank);
            parts[rank].v[at] = float_of(chunk.x);
            parts[rank].v[at + 1] = float_of(chunk.y);
            parts[rank].v[at + 2] = float_of(chunk.z);
            parts[rank].v[at + 3] = float_of(chunk.w);
        }
    }
    UNROLL for (int rank = 1; rank < N; rank++) {
        UNROLL for (int i = 0; i < VEC; i++) parts[0].v[i] = add(parts[0].v[i], parts[rank].v[i]);
    }
    return parts[0];
}

// The same for a cluster of 2, 4 or 8 blocks.
DEVICE Values sum_of_peers(const float* own, int splits) {
    return splits == 2 ? sum_of<2>(own) : splits == 4 ? sum_of<4>(own) : sum_of<8>(own);
}

// A vector of the tile: its row and first column there, and its pixel and first channel in the result.
struct InTile {
    int row, column, pixel, channel;
};

// Calls act(InTile) for the vectors inside the result that this block of a cluster finishes: as many rows of the
// tile as every other block does, which are those from block_z() * BM / splits on.
template <class Act>
DEVICE void for_each_in_share(int splits, const Extent& extent, int pitch, int first_pixel, int first_output, Act act) {
    int rows = BM / splits, begin = block_z() * rows;
    for (int at = thread_index(); at < rows * VECTORS; at += THREADS) {
        int row = begin + at / VECTORS, column = at % VECTORS * VEC;
        InTile place = {row, column, first_pixel + row, first_output + column};
        if (place.pixel < extent.pixels && place.channel < pitch) act(place);
    }
}

// The end of a tile of which each block of a cluster has staged a part of the sums: every block adds the parts of
// its share, applies the epilogue, and stores the results. `init` is added last. Only this block reads these rows of
// its own part, so it leaves the results there, for the sums of `tile_sums`, which are of these rows.
DEVICE void store_in_cluster(const Epilogue& e, const float* init, const Extent& extent, const TileSums& tile_sums,
                             int splits, int first_pixel, int first_output) {
    float* shared = reinterpret_cast<float*>(shared_memory());
    sync_cluster();
    for_each_in_share(splits, extent, e.pitch, first_pixel, first_output, [&](const InTile& at) {
        float* own = shared + at.row * OUT_PITCH + at.column;
        Values sums = sum_of_peers(own, splits);
        if (init) {
            Values first = load_wide(init + static_cast<i64>(at.pixel) * e.pitch + at.channel);
            UNROLL for (int i = 0; i < VEC; i++) sums.v[i] = add(sums.v[i], first.v[i]);
        }
        store_wide(own, apply_epilogue(e, sums, at.pixel, at.channel));
    });
    int count = BM / splits, begin = block_z() * count, pixels = extent.pixels - first_pixel;
    if (tile_sums.sums && begin < pixels) {
        sync_threads();
        int first = first_pixel + begin, rows = pixels - begin < count ? pixels - begin : count;
        for (int column = thread_index(); column < BN && first_output + column < e.pitch; column += THREADS)
            sum_tile_channel(tile_sums, e.pitch, first / count, first, rows, first_output + column,
                             [&](int row) { return shared[(begin + row) * OUT_PITCH + column]; });
    }
    sync_cluster();
}

// Brings the part of the residual that this tile adds into the L2 cache, so that its latency hides behind the
// main loop. A sector of that cache is 32 bytes.
DEVICE void prefetch_residual(const Epilogue& e, const Extent& extent, int first_pixel, int first_output) {
    constexpr int SECTOR = 32 / sizeof(T), SECTORS = BN / SECTOR;
    if (!e.residual) return;
    for (int at = thread_index(); at < BM * SECTORS; at += THREADS) {
        int pixel = first_pixel + at / SECTORS, channel = first_output + at % SECTORS * SECTOR;
        if (pixel < extent.pixels && channel < e.pitch)
            prefetch(e.residual + static_cast<i64>(pixel) * e.pitch + channel);
    }
}

// Sums the values that store_tile has left in shared memory, for the average pool over the map.
DEVICE void store_tile_sums(const TileSums& to, const Extent& extent, int pitch, int first_pixel,
                            int first_output) {
    const float* shared = reinterpret_cast<const float*>(shared_memory());
    int rows = extent.pixels - first_pixel < BM ? extent.pixels - first_pixel : BM;
    sync_threads();
    for (int column = thread_index(); column < BN && first_output + column < pitch; column += THREADS)
        sum_tile_channel(to, pitch, first_pixel / BM, first_pixel, rows, first_output + column,
                         [&](int row) { return shared[row * OUT_PITCH + column]; });
}
