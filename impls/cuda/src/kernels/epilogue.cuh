// The epilogue: what happens to the sums of a tile before they are stored.
//
//   out = activation(sum * scale + bias + residual) * factor + addend
//
// It has five stages: the complete SUM, LINEAR (scale, bias and residual), ACTIVATION, PRODUCT (factor), END
// (addend). The value after each stage can be copied out as float32 for an observer, which changes no bit of
// the result, and an epilogue can continue after any stage (split_k_reduce.cu).
#pragma once
#include "device.cuh"

enum Stage { START, SUM, LINEAR, ACTIVATION, PRODUCT, END };
// SIGMOID_HALF rounds as hopper_ctl.cu does.
enum Activation { IDENTITY, RELU, SIGMOID, SIGMOID_HALF };

// A null pointer leaves its part out.
struct Epilogue {
    const float* scale;    // [pitch]; requires a bias
    const float* bias;     // [pitch]
    const T* residual;     // [pixels, pitch]
    const float* factor;   // [pixels, pitch]
    const float* addend;   // [image_pixels, pitch], the same for every image: the positional embedding
    void* out;             // [pixels, pitch] of T, or of float where `wide`
    float* observed[END];  // [pixels, pitch], the value after SUM, LINEAR, ACTIVATION, PRODUCT and END
    int channels;          // channels with a meaning; the others, up to pitch, become zeros
    int pitch;             // channels with padding, the same in all maps here
    int image_pixels;      // pixels of one image
    int activation;        // an Activation
    int from_stage;        // the Stage that the incoming value has passed already
    int wide;              // whether `out` is float whatever T is
};

DEVICE float sigmoid(float v) { return divide(1.0f, add(1.0f, exponential(-v))); }

// ReLU keeps NaN.
DEVICE float activate(int activation, float v) {
    if (activation == RELU) return v < 0.0f ? 0.0f : v;
    if (activation == SIGMOID_HALF) return widen_f16(static_cast<u16>(sigmoid_halves(v, v)));
    return activation == SIGMOID ? sigmoid(v) : v;
}

DEVICE void observe(const Epilogue& e, int stage, const Values& v, i64 at) {
    if (e.observed[stage - 1]) store_wide(e.observed[stage - 1] + at, v);
}

// Applies the epilogue to VEC channels, from `channel` on, of a pixel counted over all images, and stores the
// result. Returns the result as it was rounded for storage.
DEVICE Values apply_epilogue(const Epilogue& e, Values v, int pixel, int channel) {
    i64 at = static_cast<i64>(pixel) * e.pitch + channel;
    if (e.from_stage < SUM) observe(e, SUM, v, at);
    if (e.from_stage < LINEAR) {
        if (e.scale) {
            Values scale = load_wide(e.scale + channel), bias = load_wide(e.bias + channel);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = fma_(v.v[i], scale.v[i], bias.v[i]);
        } else if (e.bias) {
            Values bias = load_wide(e.bias + channel);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = add(v.v[i], bias.v[i]);
        }
        if (e.residual) {
            Values residual = load(e.residual + at);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = add(v.v[i], residual.v[i]);
        }
        observe(e, LINEAR, v, at);
    }
    if (e.from_stage < ACTIVATION) {
        UNROLL for (int i = 0; i < VEC; i++) v.v[i] = activate(e.activation, v.v[i]);
        observe(e, ACTIVATION, v, at);
    }
    if (e.from_stage < PRODUCT) {
        if (e.factor) {
            Values factor = load_wide(e.factor + at);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = mul(v.v[i], factor.v[i]);
        }
        observe(e, PRODUCT, v, at);
    }
    if (e.from_stage < END) {
        if (e.addend) {
            i64 in_image = pixel % e.image_pixels;
            Values addend = load_wide(e.addend + in_image * e.pitch + channel);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = add(v.v[i], addend.v[i]);
        }
        observe(e, END, v, at);
    }
    // Padded channels are zeros even where the input holds NaN or infinity, whose product with the zero
    // weights of these channels is NaN. The next layer would spread it to every channel.
    UNROLL for (int i = 0; i < VEC; i++) {
        if (channel + i >= e.channels) v.v[i] = 0.0f;
    }
    if (e.wide) {
        store_wide(static_cast<float*>(e.out) + at, v);
        return v;
    }
    uint4 stored = pack(v);
    *reinterpret_cast<uint4*>(static_cast<T*>(e.out) + at) = stored;
    return unpack(stored);
}

// Whether an epilogue only computes out = activation(sum * scale + bias + residual) in the storage format,
// without an observer and without a sigmoid of either kind.
DEVICE bool is_short(const Epilogue& e) {
    bool observed = false;
    UNROLL for (int i = 0; i < END; i++) observed = observed || e.observed[i];
    return !(observed || e.factor || e.addend || e.wide || e.from_stage || e.activation >= SIGMOID);
}

// What a short epilogue needs of VEC channels. Without scale and bias, 1 and -0 leave every bit of a sum as
// it is. `live` has the bits of a stored vector that belong to channels with a meaning.
struct Terms {
    Values scale, bias;
    uint4 live;
};

DEVICE Terms load_terms(const Epilogue& e, int channel) {
    Terms terms;
    UNROLL for (int i = 0; i < VEC; i++) {
        terms.scale.v[i] = 1.0f;
        terms.bias.v[i] = -0.0f;
    }
    if (e.scale) terms.scale = load_wide(e.scale + channel);
    if (e.bias) terms.bias = load_wide(e.bias + channel);
    u32 live[4] = {};
    UNROLL for (int i = 0; i < VEC; i++) {
        u32 bits = VEC == 4 ? ~0u : 0xffffu << i % 2 * 16;
        if (channel + i < e.channels) live[i * 4 / VEC] |= bits;
    }
    terms.live = uint4{live[0], live[1], live[2], live[3]};
    return terms;
}

// The result of a short epilogue for VEC channels, with the bits of apply_epilogue.
template <bool RESIDUAL>
DEVICE uint4 apply_short(const Epilogue& e, const Terms& terms, Values v, uint4 residual) {
    Values added = unpack(residual);
    float least = e.activation == RELU ? 0.0f : float_of(0xff800000u);
    UNROLL for (int i = 0; i < VEC; i++) {
        v.v[i] = fma_(v.v[i], terms.scale.v[i], terms.bias.v[i]);
        if (RESIDUAL) v.v[i] = add(v.v[i], added.v[i]);
        v.v[i] = v.v[i] < least ? least : v.v[i];
    }
    uint4 out = pack(v);
    return uint4{out.x & terms.live.x, out.y & terms.live.y, out.z & terms.live.z, out.w & terms.live.w};
}
