#!/usr/bin/env python3
"""Makes reference/goldens and its manifest from a folder with outputs of the published programs.

    python scripts/make_goldens.py [FOLDER] [--out reference/goldens] [--allow-changes]

FOLDER holds pt_*.npz, ms_*.npz, fl_*.npz and resize_*, which reference/goldens/README.md describes. Without FOLDER the
goldens stay unchanged, and only the manifest's entries for OUT/dumps, which scripts/make_dumps makes, are updated.
Needs numpy.

Goldens are evidence, so a golden whose content would change is an error unless --allow-changes is given.
"""

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path

try:
    import numpy as np
except ModuleNotFoundError:  # said by main; --help works without it
    np = None

# Complete outputs of all modules of one case: 1.9 MB, which `samp/` and `stat/` summarise.
DROPPED = ("act/",)
COMPRESSED = ("resize_torch.npz", "resize_jax.npz")

PROGRAMS = {
    "pt_": ("the authors' PyTorch code (xinghaochen/SqueezeTime), run in float64", "torch 2.11.0"),
    "ms_": ("the authors' MindSpore code (mindspore-lab/models), run in float32", "mindspore 2.10.0"),
    "fl_": ("h-terao/squeeze-time-linen (Flax), run in float32", "jax 0.4.28, flax 0.8.4"),
    "resize_torch": ("torch.nn.functional.interpolate, mode bilinear", "torch 2.11.0"),
    "resize_jax": (
        "jax.image.resize, and the align-corners emulation of h-terao/squeeze-time-linen",
        "jax 0.4.28",
    ),
    "resize_sizes": ("the sizes of both resize tables", "none"),
    "dumps/flax_": ("scripts/examples/flax_port.py, run in float32", "jax 0.4.28, flax 0.8.4"),
    "dumps/torch_": ("scripts/examples/torch_port.py, run in float32", "torch 2.11.0"),
}
HOLDS = {
    "pt_": "logits, and of every module's output stat/ (mean, rms, max |x|, shape) and samp/ (64 values)",
    "ms_": "logits and softmax",
    "fl_": "logits",
    "resize_torch": "<i>/in, <i>/torch_aligned, <i>/torch_aligned_f64, <i>/torch_half_pixel",
    "resize_jax": "<i>/jax_image_resize, <i>/jax_aligned_emulation (missing where it raises)",
    "resize_sizes": "[[h, w], [out_h, out_w]] at index i",
    "dumps/flax_": "logits and every module's output, float32, NHWC, the embedding resized by scale_and_translate",
    "dumps/torch_": "logits and every module's output, float32, NCHW, by forward hooks",
}
SMALL_R50 = {"depth": 50, "width": 0.125, "frames": 16, "classes": 10, "batch": 1}
SMALL_R18 = {"depth": 18, "width": 0.125, "frames": 16, "classes": 7, "batch": 1, "pos_dim": [56, 28, 14, 7]}
CASES = {
    "r50_w1_t16_224": SMALL_R50 | {"width": 1.0, "classes": 400, "size": [224, 224], "pos_dim": [56, 28, 14, 7]},
    "r50_w0125_t16_64": SMALL_R50 | {"size": [64, 64], "pos_dim": [16, 8, 4, 2]},
    "r50_w0125_t16_72x88_pos56": SMALL_R50 | {"size": [72, 88], "pos_dim": [56, 28, 14, 7]},
    "r18_w025_t16_57x65": SMALL_R18 | {"width": 0.25, "size": [57, 65]},
    "r10_w025_t8_96": {"depth": 10, "width": 0.25, "frames": 8, "classes": 5, "batch": 3}
    | {"size": [96, 96], "pos_dim": [24, 12, 6, 3]},
    "r18_w0125_t16_57x65": SMALL_R18 | {"size": [57, 65]},
    "r18_w0125_t16_64": SMALL_R18 | {"size": [64, 64]},
}
SECTIONS = {"dumps/": "Dumps", "resize_": "Resize tables", "": "Cases"}


class Failure(Exception):
    """An error whose message is one sentence: what went wrong and what to do next."""


def described(table, name):
    """The entry of `table` whose key is a prefix of `name`."""
    return next(table[prefix] for prefix in table if name.startswith(prefix))


def case_of(name):
    """The configuration that the part of the name after the program stands for; empty for resize tables."""
    case = Path(name).stem.split("_", 1)[1]
    return {} if case in ("jax", "torch", "sizes") else {"case": CASES[case]}


def rewritten(source):
    """The archive without the dropped arrays, compressed. The bytes are reproducible."""
    with np.load(source) as archive:
        kept = {name: archive[name] for name in archive.files if not name.startswith(DROPPED)}
    memory = io.BytesIO()
    np.savez_compressed(memory, **kept)
    return memory.getvalue()


def needs_rewriting(source):
    if source.suffix != ".npz":
        return False
    with np.load(source) as archive:
        return source.name in COMPRESSED or any(name.startswith(DROPPED) for name in archive.files)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def same_arrays(old, new):
    """Whether two archives hold the same arrays; another version of zlib may compress them to other bytes."""
    with np.load(io.BytesIO(old)) as a, np.load(io.BytesIO(new)) as b:
        return a.files == b.files and all(a[name].tobytes() == b[name].tobytes() for name in a.files)


def put(source, out, allow_changes):
    """Copies one golden and returns the fields of the manifest that describe its origin."""
    original = source.read_bytes()
    changed = needs_rewriting(source)
    content = rewritten(source) if changed else original
    target = out / source.name
    if target.exists() and target.read_bytes() != content:
        old = target.read_bytes()
        if changed and same_arrays(old, content):
            content = old
        elif not allow_changes:
            raise Failure(
                f"{target} would change (sha256 {digest(old)[:12]} to {digest(content)[:12]}); "
                "find out why, then pass --allow-changes."
            )
    target.write_bytes(content)
    how = "compressed anew, without act/" if changed else "byte for byte"
    return {"from": source.name, "from_sha256": digest(original), "how": how}


def entry(out, name, origin):
    content = (out / name).read_bytes()
    program, version = described(PROGRAMS, name)
    remake = (
        "scripts/make_dumps FLAX_PYTHON TORCH_PYTHON"
        if name.startswith("dumps/")
        else "scripts/make_goldens.py FOLDER"
    )
    return {
        "file": name,
        "sha256": digest(content),
        "bytes": len(content),
        "program": program,
        "version": version,
        "holds": described(HOLDS, name),
        **case_of(name),
        "remake": f"{remake}; see README.md, section '{described(SECTIONS, name)}'",
        **origin,
    }


def sources(folder):
    patterns = ("pt_*.npz", "ms_*.npz", "fl_*.npz", "resize_*.npz", "resize_sizes.json")
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    for prefix in ("pt_", "ms_", "fl_", "resize_"):
        if not any(path.name.startswith(prefix) for path in found):
            raise Failure(
                f"{folder} contains no file {prefix}*; name the folder with the outputs of the published programs."
            )
    return found


def kept(out):
    """The manifest's entries for the goldens, after a check of the files' hashes."""
    path = out / "manifest.json"
    if not path.exists():
        raise Failure(
            f"{path} does not exist, so FOLDER is needed; name the folder with the outputs of the published programs."
        )
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    entries = [item for item in files if not item["file"].startswith("dumps/")]
    for item in entries:
        found = digest((out / item["file"]).read_bytes())
        if found != item["sha256"]:
            raise Failure(
                f"{out / item['file']} has sha256 {found[:12]}, but the manifest expects {item['sha256'][:12]}; "
                "restore it with git."
            )
    return entries


def make(folder, out, allow_changes):
    out.mkdir(parents=True, exist_ok=True)
    if folder is None:
        entries = kept(out)
    else:
        entries = [entry(out, path.name, put(path, out, allow_changes)) for path in sources(folder)]
    dumps = sorted(path.relative_to(out).as_posix() for path in out.glob("dumps/*.npz"))
    entries += [entry(out, name, {}) for name in dumps]
    manifest = {"schema": 1, "weights": "formula:0", "input": "formula:0", "files": entries}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    total = sum(item["bytes"] for item in entries)
    print(f"{out}: {len(entries)} files, {total / 1e6:.2f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "reference" / "goldens")
    parser.add_argument("--allow-changes", action="store_true")
    args = parser.parse_args()
    if np is None:
        print("make_goldens: this Python has no numpy; install numpy and run this again.", file=sys.stderr)
        return 2
    try:
        make(args.folder, args.out, args.allow_changes)
    except (Failure, OSError, ValueError) as failure:
        print(f"make_goldens: {failure}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
