// The emulator, compiled once; every kernel is linked with it.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#include "hopper.hpp"

// In the first block, a barrier: all threads have run so far before earlier kernels ended.
void wait_for_earlier_kernels() {
    emulate::Grid& g = *emulate::grid;
    emulate::self().waited = true;
    if (g.open) return;
    g.waited++;
    sync_threads();
    if (!g.open && g.waited == g.launch.threads) emulate::open_memory(true);
}

void sync_threads() {
    emulate::self().state = emulate::AT_BARRIER;
    emulate::switch_to_scheduler();
}

void sync_cluster() {
    emulate::self().state = emulate::AT_CLUSTER;
    emulate::switch_to_scheduler();
}

uint4 read_peer(const void* own, int rank) {
    if (rank < 0 || rank >= emulate::grid->launch.cluster) emulate::fail("the cluster has no such block");
    const emulate::Block& peer = emulate::block->cluster[rank];
    if (emulate::has_ended(peer)) emulate::fail("a read from shared memory of a block that has ended");
    u32 at = shared_address(own);
    if (at % 16 || at + 16 > static_cast<u32>(emulate::grid->launch.shared_bytes))
        emulate::fail("a read outside of the shared memory of a block, or misaligned");
    uint4 v;
    memcpy(&v, peer.shared + at, sizeof v);
    return v;
}

float exponential(float v) { return std::exp(v); }

// Two sigmoids, rounded to half precision at each step, as hopper.cuh describes.
u32 sigmoid_halves(float low, float high) {
    u32 out = 0;
    for (int i = 0; i < 2; i++) {
        auto half = static_cast<_Float16>(static_cast<_Float16>(i ? high : low) * static_cast<_Float16>(0.5f));
        auto tanh = static_cast<_Float16>(std::tanh(static_cast<float>(half)));
        auto result = static_cast<_Float16>(static_cast<float>(tanh) * 0.5f + 0.5f);
        u16 bits;
        memcpy(&bits, &result, 2);
        out |= static_cast<u32>(bits) << (16 * i);
    }
    return out;
}
