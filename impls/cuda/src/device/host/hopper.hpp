// What hopper.cuh needs on the host: barriers in shared memory that count bytes (mbarrier), copies of boxes
// of a tensor (TMA), products of a warpgroup (wgmma), stmatrix, named barriers.
//
// The emulator finds
//   - a box that lands in memory that a product or a store still reads, and a read before a wait: boxes land,
//     and products read their operands, as early or as late as the schedule says;
//   - accumulators that are read while a product is under way: they are NaN from its start to the wait;
//   - a barrier that is never initialised, gets too many arrivals or other bytes than expected: its phase never
//     ends, which is reported as a deadlock with the state of every barrier that somebody waits for;
//   - data that the asynchronous proxy reads without a fence after it was stored by threads;
//   - warps of a warpgroup that disagree on the operands of a product, and a product without a fence;
//   - more registers after setmaxnreg than the block was started with;
//   - bank conflicts of stmatrix and ldmatrix, which are counted.
#pragma once
#include "warp.hpp"

#include <algorithm>
#include <deque>
#include <map>

namespace emulate {

// The fields of a TensorMap as `Host::tensor_map` in mod.rs writes them.
struct Tensor {
    u64 magic, base;
    u64 dims[4], strides[3], box[4];  // dims and box in values of 16 bits, the fastest first; strides in bytes
};
static_assert(sizeof(Tensor) <= sizeof(TensorMap), "a tensor map has 128 bytes");
constexpr u64 TENSOR_MAGIC = 0x7465'6e73'6f72'4d61;

// A barrier in shared memory. Memory that was not initialised has another mark.
struct Barrier {
    u8 mark, phase, expected, pending;
    int bytes;  // that are expected and have not landed
};
static_assert(sizeof(Barrier) == sizeof(u64), "a barrier has 8 bytes");
constexpr u8 BARRIER_MARK = 0x5a;

// A box on its way into shared memory.
struct Box {
    const Tensor* tensor;
    u8* to;
    int at[4];
    Barrier* barrier;
};

// A product of a warpgroup: where its threads hold their accumulators, and how many each of them holds.
struct Product {
    u64 a, b;
    bool accumulate;
    int columns;
    float* d[128];
};

struct Warpgroup {
    std::vector<Product> open;
    std::deque<std::vector<Product>> groups;
    // The true accumulators of products under way, by the address of the first thread's; and how many
    // products.
    std::map<float*, std::pair<std::vector<float>, int>> held;
    bool fenced = false;
};

// The part of a block's state that only kernels for Hopper use.
struct HopperBlock {
    std::vector<Box> boxes;
    std::vector<Warpgroup> warpgroups;
    std::vector<int> written;  // for each 16 bytes of shared memory: the thread that stored there, plus 1
};

inline HopperBlock& hopper() {
    static thread_local HopperBlock states[MAX_CLUSTER];
    return states[block->rank];
}

// A thread has stored 16 bytes of shared memory, which it must fence before the asynchronous proxy reads them.
inline void note_store(Fiber& thread, size_t chunk) {
    hopper().written[chunk] = static_cast<int>(&thread - block->fibers) + 1;
    thread.stored.push_back(chunk);
}

// Before a block starts.
inline void reset_hopper() {
    hopper().boxes.clear();
    hopper().warpgroups.assign(static_cast<size_t>(grid->launch.threads + 127) / 128, {});
    hopper().written.assign(static_cast<size_t>(grid->launch.shared_bytes) / 16 + 1, 0);
}

inline const Tensor* tensor_of(const TensorMap* map) {
    auto* tensor = reinterpret_cast<const Tensor*>(map);
    if (reinterpret_cast<uintptr_t>(map) % 64) fail("a tensor map is not aligned to 64 bytes");
    if (tensor->magic != TENSOR_MAGIC) fail("a tensor map that this device did not make");
    if (too_early(reinterpret_cast<const void*>(tensor->base))) fail(TOO_EARLY);
    return tensor;
}

inline Barrier* barrier_of(u64* memory) {
    auto* barrier = reinterpret_cast<Barrier*>(memory);
    if (barrier->mark != BARRIER_MARK) fail("a barrier in shared memory that was never initialised");
    return barrier;
}

inline void end_phase(Barrier* barrier) {
    if (barrier->pending || barrier->bytes) return;
    barrier->phase ^= 1;
    barrier->pending = barrier->expected;
}

// The address in shared memory of a value in a box: rows of 128 bytes, whose chunks of 16 bytes are swizzled
// by the address.
inline u8* swizzled(const u8* start, size_t row, size_t byte) {
    size_t at = static_cast<size_t>(start - block->shared) + row * 128 + byte;
    at ^= (at >> 7 & 7) << 4;
    if (at + 2 > static_cast<size_t>(grid->launch.shared_bytes)) fail("an operand outside of shared memory");
    return block->shared + at;
}

// Calls act(address in shared memory, address in the tensor or null where the box leaves it) for every value.
template <class Act>
inline void for_each_value(const Tensor* t, const u8* shared, const int (&at)[4], Act act) {
    size_t row = 0;
    for (u64 n = 0; n < t->box[3]; n++)
        for (u64 y = 0; y < t->box[2]; y++)
            for (u64 x = 0; x < t->box[1]; x++, row++) {
                i64 outer[3] = {at[1] + static_cast<i64>(x), at[2] + static_cast<i64>(y),
                                at[3] + static_cast<i64>(n)};
                u64 offset = 0;
                bool inside = true;
                for (int i = 0; i < 3; i++) {
                    inside = inside && outer[i] >= 0 && outer[i] < static_cast<i64>(t->dims[i + 1]);
                    offset += static_cast<u64>(outer[i]) * t->strides[i];
                }
                for (u64 c = 0; c < t->box[0]; c++) {
                    i64 channel = at[0] + static_cast<i64>(c);
                    bool exists = inside && channel >= 0 && channel < static_cast<i64>(t->dims[0]);
                    u64 address = t->base + offset + static_cast<u64>(channel) * 2;
                    act(swizzled(shared, row, c * 2), exists ? reinterpret_cast<u8*>(address) : nullptr);
                }
            }
}

inline u64 box_bytes(const Tensor* t) { return t->box[0] * t->box[1] * t->box[2] * t->box[3] * 2; }

inline void land(const Box& box) {
    for_each_value(box.tensor, box.to, box.at, [](u8* to, const u8* from) {
        if (from)
            memcpy(to, from, 2);
        else
            memset(to, 0, 2);
    });
    box.barrier->bytes -= static_cast<int>(box_bytes(box.tensor));
    end_phase(box.barrier);
}

inline void check_fenced(const u8* address) {
    if (hopper().written[static_cast<size_t>(address - block->shared) / 16])
        fail("the asynchronous proxy reads what threads stored, without fence.proxy.async between");
}

inline void perform(const BoxStore& store) {
    for_each_value(store.tensor, store.from, store.at, [](u8* from, u8* to) {
        check_fenced(from);
        if (to) memcpy(to, from, 2);
    });
}

// The 16 values of a row of an operand of a product, from its descriptor.
inline void read_row(u64 descriptor, int row, float (&values)[16]) {
    if ((descriptor >> 16 & 0x3fff) != 1 || (descriptor >> 32 & 0x3fff) != 64 || descriptor >> 62 != 1)
        fail("wgmma: a descriptor that is not one of rows of 128 swizzled bytes");
    const u8* start = block->shared + (descriptor & 0x3fff) * 16;
    for (size_t i = 0; i < 16; i++) {
        const u8* from = swizzled(start, static_cast<size_t>(row), i * 2);
        if (i % 8 == 0) check_fenced(from);
        u16 bits;
        memcpy(&bits, from, 2);
        u32 word = bits;
        values[i] = element(&word, 0);
    }
}

// wgmma.m64nNk16: thread t of the warpgroup holds row t / 32 * 16 + t % 32 / 4 (+ 8) and columns
// t % 4 * 2 (+ 1), in every 8 columns.
inline void multiply_now(const Product& p, std::vector<float>& held) {
    static thread_local float a[64][16], b[16][256], d[64][256];
    for (int row = 0; row < 64; row++) read_row(p.a, row, a[row]);
    for (int column = 0; column < p.columns; column++) {
        float values[16];
        read_row(p.b, column, values);
        for (int k = 0; k < 16; k++) b[k][column] = values[k];
    }
    int count = p.columns / 2;
    auto each = [&](auto act) {
        for (int thread = 0; thread < 128; thread++)
            for (int i = 0; i < count; i++) {
                int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
                act(d[row][i / 4 * 8 + thread % 4 * 2 + i % 2], held[static_cast<size_t>(thread * count + i)]);
            }
    };
    each([&](float& sum, float value) { sum = p.accumulate ? value : 0.0f; });
    for (int row = 0; row < 64; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < p.columns; column++) d[row][column] += a[row][k] * b[k][column];
    each([](float sum, float& value) { value = sum; });
}

inline Warpgroup& warpgroup() { return hopper().warpgroups[block->current / 128]; }

// Runs `act` once for the whole warpgroup, by the last thread that arrives. `key` must be the same for all.
template <class Act>
inline void by_warpgroup(int operation, u64 key_a, u64 key_b, Act act) {
    int first = block->current / 128 * 128;
    if (!arrive(block->fibers[first], 128, operation, key_a, key_b)) return switch_to_scheduler();
    act(&block->fibers[first]);
    leave(&block->fibers[first], 128);
}

void start_product(u64 a, u64 b, bool accumulate, int columns, float* d) {
    self().d = d;
    by_warpgroup(PRODUCT, a, b, [&](Fiber* threads) {
        Warpgroup& group = warpgroup();
        if (!group.fenced) fail("wgmma: no wgmma.fence since the accumulators could last be used");
        Product p = {a, b, accumulate, columns, {}};
        int count = columns / 2;
        auto& held = group.held[threads[0].d];
        bool under_way = held.second++ > 0;
        if (!under_way) held.first.resize(static_cast<size_t>(128 * count));
        for (int thread = 0; thread < 128; thread++) {
            p.d[thread] = threads[thread].d;
            for (int i = 0; i < count && !under_way; i++) {
                held.first[static_cast<size_t>(thread * count + i)] = p.d[thread][i];
                p.d[thread][i] = NAN;
            }
        }
        if (grid->launch.eager) multiply_now(p, held.first);
        group.open.push_back(p);
    });
}

inline void commit_open_products() {
    by_warpgroup(PRODUCT_COMMIT, 0, 0, [](Fiber*) {
        Warpgroup& group = warpgroup();
        group.groups.push_back(std::move(group.open));
        group.open.clear();
    });
}

void wait_products(int left) {
    by_warpgroup(PRODUCT_WAIT, static_cast<u64>(left), 0, [&](Fiber*) {
        Warpgroup& group = warpgroup();
        if (!group.open.empty()) fail("wgmma: a wait for products that were not committed");
        while (group.groups.size() > static_cast<size_t>(left)) {
            for (const Product& p : group.groups.front()) {
                auto& held = group.held[p.d[0]];
                if (!grid->launch.eager) multiply_now(p, held.first);
                if (--held.second > 0) continue;
                int count = p.columns / 2;
                for (int thread = 0; thread < 128; thread++)
                    memcpy(p.d[thread], &held.first[static_cast<size_t>(thread * count)], sizeof(float) * count);
                group.held.erase(p.d[0]);
            }
            group.groups.pop_front();
        }
        if (left == 0) group.fenced = false;
    });
}

// stmatrix and ldmatrix: a thread holds two neighbouring columns of row lane / 4 of each matrix, and 16 bytes in
// shared memory hold a row of the matrix, or with .trans a column.
inline void move_matrices(Fiber* warp, int operation) {
    bool storing = operation == STORE_MATRICES || operation == STORE_TRANSPOSED;
    bool transposed = operation == STORE_TRANSPOSED || operation == LOAD_TRANSPOSED;
    for (int matrix = 0; matrix < 4; matrix++) {
        u32 banks = 0;
        for (int row = 0; row < 8; row++) {
            auto* memory = static_cast<u8*>(const_cast<void*>(warp[matrix * 8 + row].row));
            uintptr_t address = reinterpret_cast<uintptr_t>(memory);
            if (address % 16) fail("ldmatrix or stmatrix: a row is not aligned to 16 bytes");
            u32 bank = 1u << (address / 16 % 8);
            grid->conflicts += (banks & bank) != 0;
            banks |= bank;
            for (int i = 0; i < 8; i++) {
                int of_row = transposed ? i : row, of_column = transposed ? row : i;
                u32& word = warp[of_row * 4 + of_column / 2].matrices[matrix];
                int bit = of_column % 2 * 16;
                u16 half;
                if (storing) {
                    half = static_cast<u16>(word >> bit);
                    memcpy(memory + i * 2, &half, 2);
                } else {
                    memcpy(&half, memory + i * 2, 2);
                    word = (word & ~(0xffffu << bit)) | static_cast<u32>(half) << bit;
                }
            }
            if (!storing) continue;
            size_t chunk = static_cast<size_t>(memory - block->shared) / 16;
            note_store(warp[matrix * 8 + row], chunk);
        }
    }
}

// Where it is the scheduler's turn: wakes threads whose barrier has reached the phase that they wait for.
inline bool wake_waiting() {
    bool any = false;
    for (Fiber& f : Fibers()) {
        if (f.state != AT_PHASE) continue;
        if (static_cast<Barrier*>(f.barrier)->phase == f.parity) continue;
        f.state = READY;
        any = true;
    }
    return any;
}

// Opens a named barrier at which as many threads wait as it counts.
inline bool open_named() {
    for (int id = 1; id < 16; id++) {
        int waiting = 0, count = 0;
        for (const Fiber& f : Fibers())
            if (f.state == AT_NAMED && f.named == id) waiting++, count = f.named_count;
        if (waiting == 0 || waiting < count) continue;
        for (Fiber& f : Fibers())
            if (f.state == AT_NAMED && f.named == id) f.state = READY;
        return true;
    }
    return false;
}

inline bool land_one() {
    auto& boxes = hopper().boxes;
    if (boxes.empty()) return false;
    size_t which = grid->launch.order < 2 ? 0 : next_random(static_cast<u32>(boxes.size()));
    Box box = boxes[which];
    boxes.erase(boxes.begin() + static_cast<long>(which));
    land(box);
    return true;
}

// One line on who waits for what, for a deadlock.
inline void describe_waits(char* to, size_t size) {
    for (const Fiber& f : Fibers()) {
        if (f.state != AT_PHASE) continue;
        auto* b = static_cast<Barrier*>(f.barrier);
        int thread = static_cast<int>(&f - block->fibers);
        int written = snprintf(to, size,
                               "; thread %d waits for the barrier at %ld: %d arrivals and %d bytes are missing",
                               thread, static_cast<long>(static_cast<u8*>(f.barrier) - block->shared), b->pending,
                               b->bytes);
        if (written < 0 || static_cast<size_t>(written) >= size) return;
        to += written;
        size -= static_cast<size_t>(written);
    }
}

// What is checked when all threads of a block have ended.
inline const char* check_end() {
    int registers = 0;
    for (const Fiber& f : Fibers()) {
        registers += f.registers;
        if (!f.stores.empty()) return "a thread ended before its stores had read shared memory";
    }
    if (!hopper().boxes.empty()) return "a block ended before a box had landed that it asked for";
    // What the block starts with: 168 for each of 384 threads, the multiple of 8 below 65536 / 384.
    return registers > 168 * 384 ? "setmaxnreg: more registers than the block has" : nullptr;
}

}  // namespace emulate

void barrier_init(u64* memory, int count) {
    auto* b = reinterpret_cast<emulate::Barrier*>(memory);
    *b = {emulate::BARRIER_MARK, 0, static_cast<u8>(count), static_cast<u8>(count), 0};
}

void barrier_arrive(u64* memory) {
    emulate::Barrier* b = emulate::barrier_of(memory);
    if (b->pending == 0) emulate::fail("a barrier in shared memory got more arrivals than it counts");
    b->pending--;
    emulate::end_phase(b);
}

void barrier_expect(u64* memory, int bytes) {
    emulate::barrier_of(memory)->bytes += bytes;
    barrier_arrive(memory);
}

void barrier_wait(u64* memory, int parity) {
    emulate::Barrier* b = emulate::barrier_of(memory);
    while (b->phase == parity) {
        emulate::Fiber& f = emulate::self();
        f.barrier = b;
        f.parity = parity;
        f.state = emulate::AT_PHASE;
        emulate::switch_to_scheduler();
    }
}

void load_box(void* to, const TensorMap* map, int channel, int x, int y, int image, u64* barrier) {
    if (shared_address(to) % 128) emulate::fail("a box is not aligned to 128 bytes in shared memory");
    emulate::Box box = {emulate::tensor_of(map), static_cast<u8*>(to), {channel, x, y, image},
                        emulate::barrier_of(barrier)};
    emulate::hopper().boxes.push_back(box);
    if (emulate::grid->launch.eager) emulate::land_one();
}

void store_shared(void* to, const uint4& v, bool valid) {
    if (!valid) return;
    if (reinterpret_cast<uintptr_t>(to) % 16) emulate::fail("misaligned access to shared memory");
    *static_cast<uint4*>(to) = v;
    emulate::note_store(emulate::self(), shared_address(to) / 16);
}

void store_box(const TensorMap* map, int channel, int x, int y, int image, const void* from) {
    if (shared_address(from) % 128) emulate::fail("a box is not aligned to 128 bytes in shared memory");
    emulate::BoxStore store = {emulate::tensor_of(map), static_cast<const u8*>(from), {channel, x, y, image}};
    if (emulate::grid->launch.eager) emulate::perform(store);
    emulate::self().stores.push_back(store);
}

void store_box_wait() {
    emulate::Fiber& f = emulate::self();
    if (!emulate::grid->launch.eager)
        for (const emulate::BoxStore& store : f.stores) emulate::perform(store);
    f.stores.clear();
}

void fence_for_async() {
    emulate::Fiber& f = emulate::self();
    int me = emulate::block->current + 1;
    for (size_t chunk : f.stored) {
        int& writer = emulate::hopper().written[chunk];
        if (writer == me) writer = 0;
    }
    f.stored.clear();
}

void products_fence() {
    emulate::by_warpgroup(emulate::PRODUCT_FENCE, 0, 0, [](emulate::Fiber*) { emulate::warpgroup().fenced = true; });
}

void commit_products() { emulate::commit_open_products(); }

void emulate::set_registers(int count) { self().registers = count; }

void emulate::named_barrier(int id, int count) {
    Fiber& f = self();
    f.named = id;
    f.named_count = count;
    f.state = AT_NAMED;
    switch_to_scheduler();
}

void emulate::store_matrices(void* line, const u32 (&r)[4], bool transposed) {
    Fiber& f = self();
    f.row = line;
    memcpy(f.matrices, r, sizeof r);
    run_by_warp(transposed ? STORE_TRANSPOSED : STORE_MATRICES);
}

void emulate::load_matrices(u32 (&r)[4], const void* line, bool transposed) {
    Fiber& f = self();
    f.row = line;
    run_by_warp(transposed ? LOAD_TRANSPOSED : LOAD_MATRICES);
    memcpy(r, f.matrices, sizeof r);
}
