"""Exports the PyTorch port as ONNX, right and with planted mistakes, and lets harness diff judge the files. Run by
scripts/check_exports, which says more."""

import argparse
import contextlib
import io
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.setdlopenflags(os.RTLD_LAZY)  # the functions of CUDA are missing, and none is called
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("examples", ".")]

import onnx  # noqa: E402
import torch  # noqa: E402
import torch_port  # noqa: E402

import formula  # noqa: E402
from plant import MISTAKES  # noqa: E402

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
QUICK = "relu-missing,swapped-weights,transposed-kernel,eps,embedding-dropped,bn-missing,residual-missing"


def model_of(args, depth):
    model = torch_port.make_model(depth=depth, width=args.width, classes=7)
    model.example = (1, 3, 16, args.size, args.size)
    return model


def export(model, path, exporter):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        more = {"external_data": False, "verbose": False} if exporter == "dynamo" else {}
        example = (torch.zeros(model.example),)
        torch.onnx.export(model, example, str(path), dynamo=exporter == "dynamo", **more)


def simplify(args, path, how):
    if how == "onnxsim":
        import onnxsim

        onnx.save(onnxsim.simplify(onnx.load(str(path)))[0], str(path))
    elif how.startswith("qdq"):
        quantise(args, path, how)
    elif how == "onnxslim":
        import onnxslim

        onnx.save(onnxslim.slim(str(path)), str(path))


def quantise(args, path, activations):
    """Quantises a file to 8 bits by pairs of QuantizeLinear and DequantizeLinear (QDQ), calibrated on four clips."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Clips(CalibrationDataReader):
        def __init__(self, name):
            shape = (1, 3, 16, args.size, args.size)
            self.clips = iter([{name: formula.clip(shape, seed)} for seed in range(4)])

        def get_next(self):
            return next(self.clips, None)

    kind = {"qdq-uint8": QuantType.QUInt8, "qdq-int8": QuantType.QInt8}[activations]
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    clips = Clips(onnx.load(str(prepared)).graph.input[0].name)
    types = {"activation_type": kind, "weight_type": QuantType.QInt8, "quant_format": QuantFormat.QDQ}
    # Weights of 7 bits: on processors without VNNI, sums of two products of 8 bits overflow.
    quantize_static(str(prepared), str(path), clips, per_channel=True, reduce_range=True, **types)


def wrong_scale(path, change, mistake):
    """Changes the scale of a quantiser of activations in the middle of a file: of both nodes, or of the second one."""
    model = onnx.load(str(path))
    constant = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in constant]
    node = nodes[len(nodes) // 2]
    scale = onnx.numpy_helper.to_array(constant[node.input[1]])
    other = onnx.numpy_helper.from_array((scale * change).astype(scale.dtype), "another_scale")
    model.graph.initializer.append(other)
    for reader in model.graph.node:
        if reader.op_type == "DequantizeLinear" and reader.input[0] == node.output[0]:
            reader.input[1] = other.name
    if mistake != "qdq-mismatch":
        node.input[1] = other.name
    onnx.save(model, str(path))


SCALES = {"qdq-scale-small": 1 / 16, "qdq-scale-large": 60.0, "qdq-mismatch": 1.3}


def number_names(path):
    """Replaces every name in a file by a number."""
    model = onnx.load(str(path))
    names = {}

    def number(name):
        return names.setdefault(name, str(len(names))) if name else name

    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
        node.doc_string = ""
        del node.metadata_props[:]
        node.input[:] = [number(name) for name in node.input]
        node.output[:] = [number(name) for name in node.output]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.name = number(value.name)
    del model.graph.value_info[:]
    onnx.save(model, str(path))


def diff(args, path, depth, folder):
    """The record of the comparison, or the sentence with which it was refused."""
    record = folder / "record.json"
    record.unlink(missing_ok=True)
    flags = ["--depth", depth, "--width", args.width, "--classes", 7, "--size", args.size]
    ends = ["--json", record, "--html", folder / "report.html", "--python", sys.executable]
    command = [args.harness, "diff", "--candidate", f"onnx:{path}", *flags, *ends, "--runtime", args.runtime]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if not record.exists():
        return (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    return json.loads(record.read_text())


def found(record, sites):
    """Whether the culprit is one of the modules, or the span before it holds one that the file does not show."""
    culprit = record.get("culprit")
    if record["verdict"] != "diverged" or culprit is None:
        return False
    # Where the file does not show the module, the explanation names the mistake at a module of the same container.
    explained = culprit["explanation"] and f"{culprit['composite']}."
    inside = any(explained and site.startswith(explained) for site in sites)
    return inside or any(site == culprit["name"] or site in culprit["unseen"] for site in sites)


def logits(args, model):
    """The output for the clip that harness diff compares with by default."""
    shape = model.example
    clip = formula.clip(shape)
    with torch.no_grad():
        return model.eval()(torch.from_numpy(clip))


def one(args, folder, depth, exporter, how, mistake=None, scale=None):
    """Makes one file and judges it. Returns whether the answer is right (None: the mistake changes no value for this
    clip, or cannot be exported), and the answer in words."""
    model = model_of(args, depth)
    sites = ()
    if mistake is not None:
        site, plant = mistake
        sites = site if isinstance(site, tuple) else (site,)
        before = logits(args, model)
        plant(model)
        if torch.equal(before, logits(args, model)):
            return None, f"{sites[0]}: changes no value"
    path = folder / "model.onnx"
    try:
        export(model, path, exporter)
    except Exception:  # torch.onnx raises classes of its own
        if mistake is None:
            raise
        return None, f"{sites[0]}: torch.onnx cannot export the model with this mistake"
    simplify(args, path, how)
    if scale is not None:
        wrong_scale(path, SCALES[scale], scale)
    number_names(path)
    record = diff(args, path, depth, folder)
    if isinstance(record, str):
        return False, f"refused: {record}"
    if scale is not None:
        return record["verdict"] == "diverged" and "quantiser" in record["culprit"]["text"], record["verdict"]
    if mistake is None:
        return record["verdict"] == "pass", record["verdict"]
    return found(record, sites), f"{sites[0]}: {record['verdict']} at {record['first_divergent']}"


def plan(args):
    """What is made: depth, exporter, simplification, and for mistakes the name and the place; and wrong scales."""
    for depth in args.depth:
        for exporter in args.exporters:
            for how in args.simplify:
                yield depth, exporter, how, None, None, None
        # Weights that are rounded to 8 bits hide small mistakes in them, so these are planted in float files.
        floats = [how for how in args.simplify if not how.startswith("qdq")] or args.simplify
        variants = [(exporter, how) for exporter in args.exporters for how in floats]
        chosen = random.Random(args.seed)
        for name in args.mistakes:
            places = MISTAKES[name](model_of(args, depth))
            for place in chosen.sample(places, min(args.places, len(places))):
                yield depth, *chosen.choice(variants), name, place, None
        for how in args.simplify:
            for scale in SCALES if how.startswith("qdq") else ():
                yield depth, args.exporters[0], how, scale, None, scale


def main():
    parser = argparse.ArgumentParser(prog="check_exports", description=__doc__, allow_abbrev=False)
    parser.add_argument("harness", help=argparse.SUPPRESS)
    parser.add_argument("--depth", default="18,50")
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--exporters", default="torchscript,dynamo")
    parser.add_argument("--simplify", default="none,onnxsim,onnxslim,qdq-uint8,qdq-int8")
    parser.add_argument("--mistakes", default=",".join(MISTAKES))
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--quick", action="store_true", help="depth 10, a handful of mistakes, one place of each")
    args = parser.parse_args()
    if args.quick:
        args.depth, args.mistakes, args.places, args.simplify = "10", QUICK, 1, "none,onnxslim,qdq-uint8"
    args.depth = [int(depth) for depth in args.depth.split(",")]
    for name in ("exporters", "simplify", "mistakes"):
        setattr(args, name, [word for word in getattr(args, name).split(",") if word])
    torch.set_num_threads(1)
    counts = {}
    wrong = apart = 0
    with tempfile.TemporaryDirectory() as folder:
        for depth, exporter, how, name, place, scale in plan(args):
            start = time.time()
            try:
                right, words = one(args, Path(folder), depth, exporter, how, place, scale)
            except Exception as error:  # errors of the libraries, reported in one line
                right, words = False, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            label = name or "right port"
            apart += right is None
            if right is not None:
                counts.setdefault(label, []).append(right)
            wrong += name is None and not right
            sign = {True: "ok   ", False: "WRONG", None: "apart"}[right]
            print(f"{sign} {depth} {exporter} {how} {label}: {words} ({time.time() - start:.1f} s)", flush=True)
    planted = [right for name, all in counts.items() if name != "right port" for right in all]
    for name, all in counts.items():
        if not all or sum(all) < len(all):
            print(f"{name}: {sum(all)} of {len(all)}")
    print(f"right ports: {sum(counts.get('right port', []))} of {len(counts.get('right port', []))} pass; "
          f"mistakes: {sum(planted)} of {len(planted)} found at their module; "
          f"{apart} more change no value or cannot be exported")
    return 0 if not wrong and sum(planted) >= 0.95 * len(planted) else 1


if __name__ == "__main__":
    sys.exit(main())
