// Asynchronous copies, and the operations that all lanes of a warp perform together: ldmatrix, mma.sync and
// shuffles.
#pragma once
#include "fibers.hpp"

namespace emulate {

// Performs copies.
inline void complete(const std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
        if (copy.valid)
            memcpy(copy.to, copy.from, 16);
        else
            memset(copy.to, 0, 16);
    }
}

// Value `at` of a vector of words in the storage format.
inline float element(const u32* words, int at) {
    if (grid->storage == WORDS) return float_of(words[at]);
    u16 bits = static_cast<u16>(words[at / 2] >> (at % 2 * 16));
    return grid->storage == F16 ? widen_f16(bits) : float_of(static_cast<u32>(bits) << 16);
}

enum {
    MATRICES, MULTIPLY, SHUFFLE, STORE_MATRICES, LOAD_MATRICES, STORE_TRANSPOSED, LOAD_TRANSPOSED, PRODUCT,
    PRODUCT_FENCE, PRODUCT_COMMIT, PRODUCT_WAIT
};

// stmatrix and ldmatrix as kernels for Hopper use them (hopper.hpp).
inline void move_matrices(Fiber* warp, int operation);

// ldmatrix.x4; counts bank conflicts. The eight rows of a matrix are 16 bytes each, and the banks of shared
// memory repeat every 128 bytes, so two rows conflict if their addresses are equal modulo 128.
inline void load_matrices_of(Fiber* warp) {
    for (int matrix = 0; matrix < 4; matrix++) {
        u32 banks = 0;
        for (int row = 0; row < 8; row++) {
            Fiber& source = warp[matrix * 8 + row];
            uintptr_t address = reinterpret_cast<uintptr_t>(source.row);
            if (address % 16) fail("ldmatrix: a row is not aligned to 16 bytes");
            u32 bank = 1u << (address / 16 % 8);
            grid->conflicts += (banks & bank) != 0;
            banks |= bank;
            for (int column = 0; column < 4; column++)
                memcpy(&warp[row * 4 + column].matrices[matrix],
                       static_cast<const u8*>(source.row) + column * 4, 4);
        }
    }
}

// mma.sync with the fragment layouts of the PTX manual: m16n8k16 for 16-bit values, m16n8k8 for TF32. Sums in
// float32, in the order of k.
template <int PER_WORD>
inline void multiply_of(Fiber* warp) {
    constexpr int K = 8 * PER_WORD;
    float a[16][K], b[K][8];
    for (int lane = 0; lane < 32; lane++) {
        Fiber& f = warp[lane];
        for (int word = 0; word < 4; word++) {
            for (int i = 0; i < PER_WORD; i++) {
                int k = word / 2 * 4 * PER_WORD + lane % 4 * PER_WORD + i;
                a[lane / 4 + word % 2 * 8][k] = element(&f.a[word], i);
                if (word < 2) b[word * 4 * PER_WORD + lane % 4 * PER_WORD + i][lane / 4] = element(&f.b[word], i);
            }
        }
    }
    float d[16][8];
    auto each = [&](auto act) {
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++) act(d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2], warp[lane].d[i]);
    };
    each([](float& sum, float held) { sum = held; });
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < K; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    each([](float sum, float& held) { held = sum; });
}

// shfl.sync.bfly.
inline void shuffle_of(Fiber* warp) {
    float values[32];
    for (int lane = 0; lane < 32; lane++) values[lane] = warp[lane].value;
    for (int lane = 0; lane < 32; lane++) warp[lane].value = values[lane ^ warp[lane].mask];
}

// Notes that the running thread has arrived at an operation of `count` threads, of which `first` is the first. It
// must be the one at which the others of them wait. Returns whether all have arrived.
inline bool arrive(Fiber& first, int count, int operation, u64 key_a, u64 key_b) {
    Meeting& m = count == 32 ? first.warp : first.warpgroup;
    if (m.arrived == 0) m = {0, operation, {key_a, key_b}};
    if (m.operation != operation) fail("the threads of a warp or warpgroup called different operations");
    if (m.key[0] != key_a || m.key[1] != key_b) fail("the threads of a warpgroup called one with different operands");
    self().state = IN_WARP;
    if (++m.arrived < count) return false;
    m.arrived = 0;
    return true;
}

// Goes on after an operation for which all threads have arrived.
inline void leave(Fiber* threads, int count) {
    for (int i = 0; i < count; i++) threads[i].state = READY;
    if (grid->launch.order >= 2) switch_to_scheduler();
}

// A warp-wide operation: the last lane that arrives performs it for all lanes.
inline void run_by_warp(int operation) {
    Fiber* warp = &block->fibers[block->current / 32 * 32];
    if (!arrive(*warp, 32, operation, 0, 0)) return switch_to_scheduler();
    if (operation == MATRICES) load_matrices_of(warp);
    if (operation == MULTIPLY) grid->storage == WORDS ? multiply_of<1>(warp) : multiply_of<2>(warp);
    if (operation == SHUFFLE) shuffle_of(warp);
    if (operation >= STORE_MATRICES && operation <= LOAD_TRANSPOSED) move_matrices(warp, operation);
    leave(warp, 32);
}

}  // namespace emulate

float shuffle_xor(float v, int mask) {
    emulate::Fiber& f = emulate::self();
    f.value = v;
    f.mask = mask;
    emulate::run_by_warp(emulate::SHUFFLE);
    return f.value;
}

void copy_async(void* to, const void* from, bool valid) {
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)
        emulate::fail("cp.async: an address is not aligned to 16 bytes");
    if (valid && emulate::too_early(from)) emulate::fail(emulate::TOO_EARLY);
    emulate::self().open.push_back({to, from, valid});
    if (emulate::grid->launch.eager) emulate::complete({{to, from, valid}});
}

void commit() {
    emulate::Fiber& f = emulate::self();
    f.groups.push_back(std::move(f.open));
    f.open.clear();
}

void emulate::wait_copies(int groups) {
    Fiber& f = self();
    while (f.groups.size() > static_cast<size_t>(groups)) {
        if (!grid->launch.eager) complete(f.groups.front());
        f.groups.erase(f.groups.begin());
    }
}

void load_matrices(u32 (&r)[4], const void* row) {
    emulate::Fiber& f = emulate::self();
    f.row = row;
    emulate::run_by_warp(emulate::MATRICES);
    memcpy(r, f.matrices, sizeof r);
}

void multiply_matrices(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emulate::Fiber& f = emulate::self();
    memcpy(f.a, a, sizeof a);
    f.b[0] = b0;
    f.b[1] = b1;
    f.d = d;
    emulate::run_by_warp(emulate::MULTIPLY);
}
