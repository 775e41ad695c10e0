"""Writes random checkpoints with PyTorch and compares our reader with torch.load. Run by scripts/oracle.

    python oracle.py READER COUNT FIRST

READER is the example weights_digest of the crate checkpoint, whose head says what a digest is.
"""

import argparse
import collections
import datetime
import hashlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.serialization import config as serialization

warnings.filterwarnings("ignore")  # deprecation warnings of torch itself

MODEL = ("10", "0.125", "7")  # depth, width, classes
AT_ONCE = 20  # checkpoints on the disk at the same time


class Subclass(torch.Tensor):
    """A tensor class that the reader cannot know."""


def model_tensors(reader):
    """Official names and shapes of the model's tensors, as the reader lists them."""
    lines = subprocess.run([reader, *MODEL], capture_output=True, text=True, check=True).stdout.splitlines()
    words = [line.split() for line in lines]
    return {name: tuple(int(n) for n in shape.split("x")) for _, name, shape in words}


# Layouts in memory. Each function returns a tensor with the values of its argument.


def contiguous(tensor, _):
    return tensor.clone()


def permuted(tensor, rng):
    """A tensor whose dimensions have another order in the storage."""
    order = list(range(tensor.dim()))
    rng.shuffle(order)
    back = [order.index(axis) for axis in range(tensor.dim())]
    return tensor.permute(order).contiguous().permute(back)


def sliced(tensor, rng):
    """A view of a larger tensor: a part of its last dimension, with a step of 1 to 3."""
    step = rng.choice([1, 2, 3])
    before = rng.randrange(3)
    extent = tensor.shape[-1] if tensor.dim() else 1
    wide = torch.full((*tensor.shape[:-1], before + extent * step), 7.0).to(tensor.dtype)
    view = wide[..., before::step][..., :extent]
    view.copy_(tensor)
    return view


def channels_last(tensor, _):
    return tensor.clone(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor.clone()


def negated(tensor, rng):
    """A view with the negative bit: the imaginary part of a conjugated tensor."""
    if tensor.dtype not in (torch.float32, torch.float64):
        return tensor.clone()
    view = torch.complex(torch.zeros_like(tensor), -tensor).conj().imag
    assert view.is_neg()
    return view[...] if rng.random() < 0.5 else view


def imaginary(tensor, _):
    """The imaginary part of a complex tensor, whose storage also holds the real part."""
    if tensor.dtype not in (torch.float32, torch.float64):
        return tensor.clone()
    return torch.complex(torch.ones_like(tensor), tensor).imag


LAYOUTS = [contiguous, contiguous, permuted, sliced, channels_last, negated, imaginary]


def shared(tensors, rng):
    """All tensors of the same number format as parts of one storage, in random order."""
    out = dict(tensors)
    for dtype in {tensor.dtype for tensor in tensors.values()}:
        names = [name for name, tensor in tensors.items() if tensor.dtype == dtype]
        rng.shuffle(names)
        storage = torch.cat([tensors[name].reshape(-1) for name in names])
        at = 0
        for name in names:
            count = tensors[name].numel()
            out[name] = storage[at : at + count].view(tensors[name].shape)
            at += count
    return out


# Tensor classes. Each function returns a tensor with the values of its argument.


def parameter(tensor, rng):
    out = torch.nn.Parameter(tensor, requires_grad=rng.random() < 0.8)
    if rng.random() < 0.2:
        out.lr_scale = 0.5  # makes torch.save write _rebuild_parameter_with_state
    return out


def attributed(tensor, _):
    out = tensor.detach()
    out.tag = "a tensor with an attribute"  # makes torch.save write _rebuild_from_type_v2
    return out


def buffer(tensor, _):
    return torch.nn.Buffer(tensor)


CLASSES = [lambda tensor, _: tensor, lambda tensor, _: tensor, parameter, attributed, buffer]


# Tensors that cannot be weights.


def spoil(tensor, rng):
    """A tensor that cannot be a weight, and a part of the message with which it must be refused."""
    kinds = [
        lambda: (tensor.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        lambda: (tensor.to(torch.float8_e5m2), "float8_e5m2"),
        lambda: ((tensor * 100).to(torch.int8), "int8"),
        lambda: ((tensor * 100).to(torch.int64), "int64"),
        lambda: (tensor.to(torch.bool), "bool"),
        lambda: (torch.complex(tensor, tensor), "complex64"),
        lambda: (torch.complex(tensor, tensor).conj(), "complex64"),
        lambda: (torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantised"),
        lambda: (tensor.to_sparse(), "sparse"),
        lambda: (tensor.to("meta"), "meta"),
        lambda: (tensor.reshape(-1)[:1].clone().expand(tensor.numel()).view(tensor.shape), "repeats"),
        lambda: (tensor.as_subclass(Subclass), "__main__.Subclass"),
        lambda: (tensor.reshape(-1)[:-1].clone(), "has the shape"),
    ]
    return rng.choice(kinds)()


# Names in the state dict.

WRAPPERS = ["module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module"]


def mmaction(name):
    return f"cls_head.fc_cls.{name[3:]}" if name.startswith("fc.") else f"backbone.net.{name}"


def namer(rng):
    """A function from official names to names with the prefixes and wrappers of some program."""
    prefix = "".join(f"{word}." for word in rng.sample(["module", "model", "_orig_mod", "net"], rng.choice([0, 0, 1, 2])))
    base = rng.choice([str, str, mmaction])
    middle = rng.choice([None, None, rng.choice(WRAPPERS)])

    def rename(name):
        parts = base(name).split(".")
        if middle and len(parts) > 3:
            parts.insert(2, middle)
        return prefix + ".".join(parts)

    return rename


# Content and format of the files.


def training_state(tensors, rng):
    """Some of the values that training programs save together with a state dict."""
    values = {
        "epoch": 7,
        "arch": "squeezetime",
        "best_acc1": torch.tensor(71.64),
        "loss": torch.tensor(0.5, dtype=torch.float64),
        "rng_state": torch.get_rng_state(),
        "args": argparse.Namespace(lr=0.1, layers=[1, 2]),
        "time": datetime.datetime(2026, 1, 1),
        "best": np.float64(0.7),
        "history": np.arange(4),
        "scheduler": {"base_lrs": [0.1], "_step_count": 1},
        "params": {"lr": 0.1},
        "losses": [0.1, 0.2, torch.tensor(0.3)],
        "hyper": collections.defaultdict(list, {"a": [1]}),
        "optimizer": {
            "state": {
                index: {"step": torch.tensor(1.0), "exp_avg": torch.zeros_like(tensor, device="cpu")}
                for index, tensor in enumerate(list(tensors.values())[:9])
                if tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
            },
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        },
    }
    keys = rng.sample(sorted(values), rng.randrange(6))
    return {key: values[key] for key in keys}


COUNTERS = {"n_averaged": torch.tensor(3), "steps": torch.tensor([5]), "bn1.num_batches_tracked": torch.tensor(9)}


def nest(state, others, rng):
    """An object that contains the state dict somewhere, and a function that returns the state dict from it."""
    kind = rng.choice(["flat", "key", "key", "key", "deep", "list"])
    if kind == "flat" or (kind != "list" and not others and rng.random() < 0.3):
        return state, lambda saved: saved
    if kind == "list":
        items = [3, state, others]
        return (items, lambda saved: saved[1]) if rng.random() < 0.5 else (tuple(items), lambda saved: saved[1])
    keys = [rng.choice(["state_dict", "model", "model_state_dict", "net", "network", "weights", "student"])]
    if kind == "deep":
        keys = [rng.choice(["checkpoint", "trainer", "best"]), *keys]

    def take(saved):
        for key in keys:
            saved = saved[key]
        return saved

    inner = state
    for key in reversed(keys):
        entries = [(key, inner), *others.items()]
        others = {}
        rng.shuffle(entries)
        inner = collections.OrderedDict(entries) if rng.random() < 0.5 else dict(entries)
    return inner, take


def write(saved, path, may_be_old, rng):
    """Saves in one of the formats of torch.save and returns a description of the format."""
    protocol = rng.choice([2, 2, 3, 4, 5])
    # The legacy format cannot hold all kinds of tensors.
    if rng.random() < 0.3 and may_be_old:
        torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
        return f"legacy protocol {protocol}"
    crc32, alignment = rng.random() < 0.7, rng.choice([64, 64, 1, 512, 4096])
    byteorder = rng.random() < 0.2
    with serialization.patch({"save.compute_crc32": crc32, "save.storage_alignment": alignment}):
        torch.save(saved, path, pickle_protocol=protocol, _disable_byteorder_record=byteorder)
    return f"zip protocol {protocol}, crc32 {crc32}, alignment {alignment}, no byteorder {byteorder}"


class Checkpoint:
    """A random checkpoint: its file, its state dict as torch.load reads it, and why it must be refused, if so."""

    def __init__(self, seed, shapes, folder):
        rng = random.Random(seed)
        values = np.random.default_rng(seed)
        self.seed = seed
        self.reason = None  # part of the message with which the reader must refuse the file
        formats = rng.choice([[torch.float32]] * 2 + [[torch.float32, torch.float16, torch.bfloat16, torch.float64]])

        def tensors():
            normal = {name: torch.from_numpy(values.standard_normal(shape)) for name, shape in shapes.items()}
            return {name: tensor.to(rng.choice(formats)) for name, tensor in normal.items()}

        state = tensors()
        if rng.random() < 0.2:
            state = shared(state, rng)
        else:
            layouts = rng.choice([[contiguous], LAYOUTS, [negated], [sliced, permuted]])
            state = {name: rng.choice(layouts)(tensor, rng) for name, tensor in state.items()}
        classes = rng.choice([CLASSES[:1], CLASSES[:1], CLASSES])
        state = {name: rng.choice(classes)(tensor, rng) for name, tensor in state.items()}
        if rng.random() < 0.25:
            name = rng.choice([name for name, shape in shapes.items() if np.prod(shape) > 1])
            state[name], self.reason = spoil(state[name].detach().float().resolve_neg().clone(), rng)
        rename = namer(rng)
        self.names = {name: rename(name) for name in shapes}
        state = collections.OrderedDict((self.names[name], tensor) for name, tensor in state.items())
        if rng.random() < 0.3:
            counters = rng.sample(sorted(COUNTERS), rng.randrange(1, 4))
            state.update((rename(name) if "." in name else name, COUNTERS[name]) for name in counters)
        if rng.random() < 0.3 and self.reason is None:
            self.safetensors(state, folder)
            return
        others = training_state(state, rng)
        if rng.random() < 0.25:
            averaged = {self.names[name]: tensor for name, tensor in tensors().items()}
            others[rng.choice(["state_dict_ema", "model_ema", "ema", "teacher"])] = averaged
        saved, take = nest(state, others, rng)
        self.path = folder / f"{seed}.pth"
        self.how = write(saved, self.path, "float8" not in str(self.reason), rng)
        self.state = take(torch.load(self.path, weights_only=False))

    def safetensors(self, state, folder):
        """Saves as safetensors, which takes only dense tensors with separate storage. The header's length is random."""
        dense = {name: tensor.detach().resolve_neg().contiguous().clone() for name, tensor in state.items()}
        note = "x" * random.Random(self.seed).randrange(70_000)
        self.path = folder / f"{self.seed}.safetensors"
        save_file(dense, self.path, metadata={"note": note})
        self.how, self.state = f"safetensors, header note of {len(note)} bytes", dense

    def digest(self):
        """The digest of the state dict that torch.load returned, computed as by READER."""
        total = hashlib.sha256()
        for name in sorted(self.names):
            tensor = self.state[self.names[name]].detach().resolve_conj().resolve_neg()
            total.update(f"{name}\n".encode())
            total.update(np.array(tensor.shape, dtype="<u8").tobytes())
            total.update(tensor.contiguous().to(torch.float64).numpy().astype("<f8").tobytes())
        return total.hexdigest()

    def verdict(self, line):
        """The outcome in words, and whether it is right; `line` is the reader's answer."""
        word, _, rest = line.partition(" ")
        if word == "read":
            if self.reason is not None:
                return "read although it must be refused", False
            return ("read", True) if rest == self.digest() else ("read with other values than by torch.load", False)
        if word != "refused":
            return f"neither read nor refused: {line}", False
        if self.reason is None or self.reason not in rest:
            return f"refused for another reason than its defect: {rest}", False
        return f"refused: {self.reason}", True


def main(reader, count, first):
    shapes = model_tensors(reader)
    print(f"torch {torch.__version__}: {count} checkpoints, seeds from {first}", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="oracle-"))
    counts, failed = collections.Counter(), 0
    for start in range(first, first + count, AT_ONCE):
        seeds = range(start, min(start + AT_ONCE, first + count))
        made = [Checkpoint(seed, shapes, folder) for seed in seeds]
        command = [reader, *MODEL, *(str(checkpoint.path) for checkpoint in made)]
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        lines += ["the reader stopped"] * (len(made) - len(lines))
        for checkpoint, line in zip(made, lines):
            kind, right = checkpoint.verdict(line)
            if right:
                counts[kind] += 1
                checkpoint.path.unlink()
                continue
            failed += 1
            print(f"seed {checkpoint.seed} ({checkpoint.how}): {kind}; kept as {checkpoint.path}")
    for kind, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"{number:5} {re.sub(r'^read$', 'read with the same bits as by torch.load', kind)}")
    print(f"{count} checkpoints, {failed} of them neither read correctly nor refused for their defect")
    if not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
