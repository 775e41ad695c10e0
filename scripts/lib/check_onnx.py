"""Compares exported ONNX files with the reference, by the rule of `harness diff`. Run by scripts/check_onnx.

    python check_onnx.py HARNESS [--opset 17,23] [options for model and weights]

Exit code 0: all files are valid and their logits agree. 1: one file is invalid or disagrees. 2: usage or tool error.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

COLUMNS = ("opset", "IR", "nodes", "MB", "checker", "rel L2", "ratio", "verdict")
WIDTHS = (5, 4, 6, 8, 9, 9, 7, 12)


class Failure(Exception):
    """A tool that failed; the message is one sentence."""


def harness(program, *arguments):
    """Runs the harness and returns its exit code, 0 or 1. Raises Failure for any other one."""
    result = subprocess.run([program, *arguments], capture_output=True, text=True)
    if result.returncode not in (0, 1):
        lines = result.stderr.strip().splitlines() or [f"harness ended with {result.returncode}"]
        said = [line for line in lines if line.startswith(("harness: ", "error: "))]
        raise Failure((said or lines[-1:])[0].removeprefix("harness: ").removeprefix("error: "))
    return result.returncode


def infer(model, arrays, output):
    """Runs a file in ONNX Runtime and saves its outputs, together with `input`, into the npz `output`.

    `arrays` holds the inputs by name: a dictionary, or the path of an npz.
    """
    import numpy
    import onnxruntime

    arrays = numpy.load(arrays) if isinstance(arrays, str) else arrays
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    feeds = {wanted.name: arrays[wanted.name] for wanted in session.get_inputs()}
    names = [given.name for given in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, feeds)))
    numpy.savez(output, input=arrays["input"], **outputs)


def facts(model):
    """The first cells of a row: opset, IR version, nodes, size, and whether the file is valid."""
    import onnx

    read = onnx.load(str(model))
    try:
        onnx.checker.check_model(str(model), full_check=True)
        valid = "valid"
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        print(f"check_onnx: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        valid = "INVALID"
    size = f"{Path(model).stat().st_size / 1e6:.1f}"
    return [read.opset_import[0].version, read.ir_version, len(read.graph.node), size, valid]


def check(program, opset, flags, folder):
    """One row of the table, and whether the file is valid and agrees."""
    model, clip, output, record = (str(folder / name) for name in ("m.onnx", "clip.npz", "ort.npz", "record.json"))
    harness(program, "export", "onnx", "--opset", opset, "--out", model, *flags)
    harness(program, "dump", "--engine", "scalar", "--layer", "input", "--out", clip, *flags)
    cells = facts(model)
    infer(model, clip, output)
    report = str(folder / "report.html")
    ends = ["--candidate", f"npz:{output}", "--layer", "fc", "--json", record, "--html", report]
    agreed = harness(program, "diff", *ends, *flags) == 0
    found = json.loads(Path(record).read_text())
    logits = found["logits"]
    cells += [f"{float(logits['rel_l2']):.1e}", f"{float(logits['ratio']):.2f}", found["verdict"]]
    return cells, agreed and "INVALID" not in cells


def line(cells):
    return "".join(f"{cell!s:>{width}}" for cell, width in zip(cells, WIDTHS))


def main():
    parser = argparse.ArgumentParser(prog="check_onnx", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("harness", help=argparse.SUPPRESS)
    parser.add_argument("--opset", default="17,19,21,23", help="opset versions to export, separated by commas")
    args, flags = parser.parse_known_args()
    try:
        rows = [COLUMNS]
        good = True
        for opset in args.opset.split(","):
            with tempfile.TemporaryDirectory() as folder:
                cells, fine = check(args.harness, opset, flags, Path(folder))
            rows.append(cells)
            good &= fine
    except ImportError as error:
        print(f"check_onnx: {error.name} is not installed; run scripts/check_onnx, which installs it", file=sys.stderr)
        return 2
    except (Failure, OSError) as failure:
        print(f"check_onnx: {failure}", file=sys.stderr)
        return 2
    except Exception as error:  # errors of the libraries, reported in one line
        print(f"check_onnx: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", file=sys.stderr)
        return 2
    print("\n".join(map(line, rows)))
    print("ratio: error / allowed, as in `harness diff`; 4 or less passes")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
