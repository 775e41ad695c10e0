"""Writes a small checkpoint in every format that is read, all with the same formula weights.

    python make.py        with numpy and torch 2.11.0, then again with numpy and jax 0.4.28

Each run writes the files that its packages can. The shapes are odd on purpose: a kernel that is not
square and an embedding with three different extents tell a wrong order of dimensions.
"""
import json
import pathlib
import pickle
import struct
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "scripts"))
from formula import official_name, parameter  # noqa: E402

BN = ("weight", "bias", "running_mean", "running_var")
CTL = "layer1.0.conv2."
SHAPES = {
    "conv1.weight": (4, 6, 3, 3),
    **{f"bn1.{leaf}": (4,) for leaf in BN},
    CTL + "param_conv.1.weight": (4, 4, 1, 1),
    **{CTL + f"param_conv.2.{leaf}": (4,) for leaf in BN},
    CTL + "spatial_conv.pos_embed": (1, 3, 2, 5),
    CTL + "spatial_conv.glo_conv.3.weight": (3, 4, 3, 2),
    "layer2.0.downsample.0.weight": (4, 1, 2, 2),
    "fc.weight": (5, 4),
    "fc.bias": (5,),
}


WEIGHTS = {name: parameter(official_name(name), shape) for name, shape in SHAPES.items()}


def numpy_files():
    np.savez(HERE / "bare.npz", **WEIGHTS)
    mixed = (np.float64, np.float16, ">f4", np.float32)
    arrays = {"module." + n: np.asfortranarray(w.astype(mixed[i % 4])) for i, (n, w) in enumerate(WEIGHTS.items())}
    np.savez_compressed(HERE / "mixed.npz", **arrays)
    (HERE / "bare.safetensors").write_bytes(safetensors())
    (HERE / "mindspore.ckpt").write_bytes(b"".join(mindspore_value(n, w) for n, w in WEIGHTS.items()))


def safetensors():
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, w in WEIGHTS.items():
        data = w.tobytes()
        header[name] = {"dtype": "F32", "shape": w.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def mindspore_value(name, w):
    """As mindspore 2.10.0 writes it: extents unpacked, BatchNorm's names its own."""
    if ".bn" in "." + name or "param_conv.2" in name:
        own = dict(zip(BN, ("gamma", "beta", "moving_mean", "moving_variance")))
        path, leaf = name.rsplit(".", 1)
        name = f"{path}.{own[leaf]}"
    dims = b"".join(varint(1 << 3) + varint(extent) for extent in w.shape)
    tensor = dims + field(2, b"Float32") + field(3, w.tobytes())
    return field(1, field(1, name.encode()) + field(2, tensor))


def flax_tree(convert):
    members = {"1": "conv1", "2": "norm1", "4": "conv2"}, {"0": "conv1", "1": "norm1", "3": "conv2"}
    tree = {"params": {}, "batch_stats": {}}
    for name, w in WEIGHTS.items():
        path = name.replace("layer1.0", "layer1_0").replace("layer2.0", "layer2_0").replace("downsample.0", "downsample_0")
        parts = path.split(".")
        for container, table in zip(("param_conv", "glo_conv"), members):
            if container in parts:
                at = parts.index(container) + 1
                parts[at] = table[parts[at]]
        leaf = parts.pop()
        collection = "batch_stats" if leaf.startswith("running") else "params"
        if leaf == "pos_embed":
            parts.append("glo_conv")
            w = w[0].transpose(1, 2, 0)
        elif leaf == "weight" and w.ndim == 4:
            leaf, w = "kernel", w.transpose(2, 3, 1, 0)
        elif leaf == "weight" and w.ndim == 2:
            leaf, w = "kernel", w.T
        elif leaf == "weight":
            leaf = "scale"
        leaf = {"running_mean": "mean", "running_var": "var"}.get(leaf, leaf)
        node = tree[collection]
        for part in parts:
            node = node.setdefault(part.replace("_0", ".0"), {})
        node[leaf] = convert(np.ascontiguousarray(w))
    return tree


def flax_files():
    for protocol in (2, 4, 5):
        with open(HERE / f"flax_protocol{protocol}.pkl", "wb") as f:
            pickle.dump(flax_tree(lambda w: w), f, protocol=protocol)


def jax_files():
    import jax.numpy as jnp
    import ml_dtypes

    with open(HERE / "jax_arrays.pkl", "wb") as f:
        pickle.dump(flax_tree(jnp.asarray), f, protocol=4)
    with open(HERE / "jax_bfloat16.pkl", "wb") as f:
        pickle.dump(flax_tree(lambda w: w.astype(ml_dtypes.bfloat16)), f, protocol=4)


def torch_files():
    import torch
    from collections import OrderedDict

    state = OrderedDict((n, torch.from_numpy(w)) for n, w in WEIGHTS.items())
    mmaction = OrderedDict((official_name(n), w) for n, w in state.items())
    mmaction["backbone.net.bn1.num_batches_tracked"] = torch.tensor(3)
    meta = {"epoch": 1, "best": np.float64(0.5), "shape": torch.Size([1, 2]), "device": torch.device("cpu")}
    torch.save({"meta": meta, "state_dict": mmaction}, HERE / "mmaction.pth")
    torch.save(dict(state), HERE / "bare_legacy.pth", _use_new_zipfile_serialization=False)

    # Views: one flat storage, transposed dimensions, parameters.
    flat = torch.cat([torch.zeros(7)] + [w.flatten() for w in state.values()])
    views, at = {}, 7
    for n, w in state.items():
        views["module.net." + n] = flat[at : at + w.numel()].view(w.shape)
        at += w.numel()
    for kind, zipped in (("zip", True), ("legacy", False)):
        torch.save({"model": views, "epoch": 3}, HERE / f"views_{kind}.pth", _use_new_zipfile_serialization=zipped)
    turned = {n: torch.nn.Parameter(w.mT.contiguous().mT) if w.ndim > 1 else w for n, w in state.items()}
    torch.save(turned, HERE / "turned.pth")

    mixed = (torch.float64, torch.float16, torch.bfloat16, torch.float32)
    converted = {n: w.to(mixed[i % 4]) for i, (n, w) in enumerate(state.items())}
    torch.save({"state_dict_ema": converted}, HERE / "mixed.pth")
    torch.save({n: w for n, w in mmaction.items() if "cls_head" not in n}, HERE / "backbone.pth")


def main():
    try:
        import torch  # noqa: F401
    except ImportError:
        jax_files()
    else:
        numpy_files()
        flax_files()
        torch_files()


main()
