// The sums over tiles of a map that lies in memory, for where its values could have been replaced.
#include "pool.cuh"

struct PoolArgs {
    const T* x;  // [pixels, pitch]
    Pool pool;
    int pixels, pitch, rows, unused;  // rows of a tile
};

// grid: (tiles, pitch / 256)
KERNEL(pool_map, PoolArgs, 256) {
    int first = block_x() * args.rows, channel = block_y() * 256 + thread_index();
    int rows = args.pixels - first < args.rows ? args.pixels - first : args.rows;
    if (channel >= args.pitch) return;
    const T* from = args.x + static_cast<i64>(first) * args.pitch + channel;
    pool_tile(args.pool, args.pitch, block_x(), first, rows, channel,
              [&](int row) { return widen(from[static_cast<i64>(row) * args.pitch]); });
}
