"""Weights and inputs from a formula, so that programs in any language make the same bits without exchanging a file.

The i-th number of a stream is a splitmix64 hash of the name of the stream, the seed and i. The top 24 bits of the
hash are the digits of a number in [0, 1), which a float32 holds exactly.
"""

import math

import numpy as np

FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
GOLDEN_GAMMA = 0x9E3779B97F4A7C15
MASK64 = (1 << 64) - 1


def fnv1a64(text):
    digest = FNV_OFFSET
    for byte in text.encode():
        digest = (digest ^ byte) * FNV_PRIME & MASK64
    return digest


def mix(state):
    """The finaliser of splitmix64, which relies on the wrap-around of uint64 arrays."""
    state = (state + np.uint64(GOLDEN_GAMMA)).astype(np.uint64)
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return state ^ state >> np.uint64(31)


def stream(name, count, seed=0):
    """`count` values in [0, 1) as float64; all are representable in float32."""
    start = np.uint64(fnv1a64(name) ^ seed)
    states = np.arange(count, dtype=np.uint64) * np.uint64(GOLDEN_GAMMA) + start
    return (mix(states) >> np.uint64(40)) / 2.0**24


def clip(shape, seed=0):
    """An input [N, 3, T, H, W] with values in [-2, 2), roughly the range of a normalised video."""
    return (stream("input", math.prod(shape), seed) * 4 - 2).astype(np.float32).reshape(shape)


def parameter(name, shape, seed=0):
    """One entry of the state dict; `name` is the name in mmaction2, such as backbone.net.conv1.weight.

    Convolutions preserve the variance of their input and BatchNorms scale by 0.5 to 1.5, so activations stay near 1.
    """
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    values = stream(name, math.prod(shape), seed)
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        values = 0.5 + values
    elif leaf == "pos_embed":
        values = (2 * values - 1) * 0.5
    elif leaf == "weight":
        values = (2 * values - 1) * np.sqrt(3.0 / math.prod(shape[1:]))
    else:
        values = (values - 0.5) * 0.2
    return values.astype(np.float32).reshape(shape)


def official_name(name):
    """The name in mmaction2 of a parameter of the bare network, whose head is called fc."""
    return f"cls_head.fc_cls.{name[3:]}" if name.startswith("fc.") else f"backbone.net.{name}"
