// What happens to sums before they are stored. A value passes the stages in order; any of them can
// be copied out as float32 (`see`), which changes nothing, and a run can be taken up after one.
#pragma once
#include "device.cuh"

enum Stage { START, SUM, LINEAR, ACTIVATION, PRODUCT, END };
enum Activation { IDENTITY, RELU, SIGMOID };

// out = activation(sum * scale + bias + residual) * factor + post. A null pointer leaves its part out.
// Maps are [pixels, pitch]; scale and bias hold `pitch` values, post [pixels of an image, pitch].
struct Epilogue {
    const float* scale;
    const float* bias;
    const T* residual;
    const float* factor;
    const float* post;
    void* out;          // T, or float where `wide`
    float* see[END];    // what the value is after SUM, LINEAR, ACTIVATION, PRODUCT, END; null: unseen
    int channels;       // that count; the others become zeros
    int pitch;          // with padding, of all maps here
    int image;          // pixels of one image
    int activation;
    int from;           // the stage that the value has passed already
    int wide;
};

DEVICE float sigmoid(float v) { return divide(1.0f, add(1.0f, exponential(-v))); }

DEVICE float activate(int activation, float v) {
    if (activation == RELU) return v < 0.0f ? 0.0f : v;  // NaN stays
    return activation == SIGMOID ? sigmoid(v) : v;
}

DEVICE void see(const Epilogue& e, int stage, const Values& v, i64 at) {
    if (e.see[stage - 1]) store_wide(e.see[stage - 1] + at, v);
}

// Takes VEC channels of a pixel (counted over all images) through the stages; returns what is stored.
DEVICE Values finish(const Epilogue& e, Values v, int pixel, int channel) {
    i64 at = static_cast<i64>(pixel) * e.pitch + channel;
    if (e.from < SUM) see(e, SUM, v, at);
    if (e.from < LINEAR) {
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
        see(e, LINEAR, v, at);
    }
    if (e.from < ACTIVATION) {
        UNROLL for (int i = 0; i < VEC; i++) v.v[i] = activate(e.activation, v.v[i]);
        see(e, ACTIVATION, v, at);
    }
    if (e.from < PRODUCT) {
        if (e.factor) {
            Values factor = load_wide(e.factor + at);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = mul(v.v[i], factor.v[i]);
        }
        see(e, PRODUCT, v, at);
    }
    if (e.from < END) {
        if (e.post) {
            Values post = load_wide(e.post + static_cast<i64>(pixel % e.image) * e.pitch + channel);
            UNROLL for (int i = 0; i < VEC; i++) v.v[i] = add(v.v[i], post.v[i]);
        }
        see(e, END, v, at);
    }
    // What NaN and infinity times zero weights are must not reach another layer.
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
