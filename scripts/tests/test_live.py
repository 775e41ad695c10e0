"""Tests of the Python side of live candidates that need no framework."""

import importlib.util
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

LIVE = Path(__file__).resolve().parents[2] / "experiments/harness/src/engines/live"


def load(name):
    spec = importlib.util.spec_from_file_location(name, LIVE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


feeder = load("feeder")

# A network with a shortcut around b and c. Each module adds up what it reads.
READS = {"a": ["clip"], "b": ["a"], "c": ["b"], "s.0": ["a"], "s.1": ["s.0"], "block": ["c", "s.1"], "d": ["block"]}
ORDERS = [
    ["a", "b", "c", "s.0", "s.1", "block", "d"],
    ["a", "s.0", "s.1", "b", "c", "block", "d"],
    ["a", "b", "s.0", "c", "s.1", "block", "d"],
]


def shown(program, feeds):
    """What the harness is shown by a program with this order, and how many runs that took."""
    names = list(READS)
    seen, runs = [], []

    def ask(at, value):
        seen.append((names[at], value))
        return 100 + at if feeds(names[at]) else None

    session = feeder.Feeder(names, ask, lambda value: value)

    def forward():
        runs.append(0)
        values = {"clip": 1}
        for name in program:
            known = session.skip(name)
            value = sum(values[read] for read in READS[name]) * 2 if known is None else known
            fed = session.visit(name, value)
            values[name] = value if fed is None else fed
        return values["d"]

    session.run(forward)
    return seen, len(runs)


class Feeding(unittest.TestCase):
    def test_values_do_not_depend_on_the_order_of_the_program(self):
        for feeds in (lambda name: True, lambda name: False, lambda name: name != "b", lambda name: name == "s.0"):
            expected, runs = shown(ORDERS[0], feeds)
            self.assertEqual([name for name, _ in expected], list(READS))
            self.assertEqual(runs, 1)
            for order in ORDERS[1:]:
                self.assertEqual(shown(order, feeds)[0], expected)

    def test_one_run_is_enough_if_nothing_is_fed(self):
        self.assertEqual([shown(order, lambda name: False)[1] for order in ORDERS], [1, 1, 1])

    def test_a_module_that_does_not_run_is_passed_over(self):
        seen = []
        session = feeder.Feeder(["a", "b", "c"], lambda at, value: seen.append(at), lambda value: value)
        session.run(lambda: [session.visit(name, 0) for name in ("a", "c")])
        self.assertEqual(seen, [0, 2])


# Run by the Python that has Flax: a module of a list is fed zeros, and the next one sees them.
NNX = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from flax import nnx
import harness_live
from harness_feeder import Feeder


class Block(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(6, 6, (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(6, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.bn1(self.conv1(x)))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layer1 = [Block(rngs), Block(rngs)]

    def __call__(self, clip):
        x = clip.reshape(1, 6, 8, 8).transpose(0, 2, 3, 1)
        for block in self.layer1:
            x = block(x)
        return x.mean((1, 2))


model = harness_live.wrapped(Net(nnx.Rngs(0)), "make")
clip = np.ones((1, 3, 2, 8, 8), np.float32)
found = harness_live.Live(None, "", model).on_probe({"layout": None}, clip)
assert [m["name"] for m in found["modules"]][:3] == ["layer1.0.conv1", "layer1.0.bn1", "layer1.0"], found
seen = []
feeder = Feeder(["layer1.0", "layer1.1.conv1"], lambda at, value: seen.append(value) or value * 0, model.keep)
feeder.run(lambda: model.forward(harness_live.laid_out(clip, "ncthw"), feeder.visit, feeder.skip))
assert abs(seen[0]).max() > 0 and abs(seen[1]).max() == 0, seen
"""

FILES = {"harness_channel": "worker/channel", "harness_live": "live/live", "harness_feeder": "live/feeder"}
FILES |= {"harness_flax": "live/flax_side", "harness_torch": "live/torch_side"}


class Nnx(unittest.TestCase):
    @unittest.skipUnless(os.environ.get("HARNESS_FLAX_PYTHON"), "flax: modules of NNX")
    def test_modules_are_observed_and_fed(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, source in FILES.items():
                os.symlink(LIVE.parent / f"{source}.py", Path(folder) / f"{name}.py")
            command = [os.environ["HARNESS_FLAX_PYTHON"], "-c", NNX, folder]
            run = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)


if __name__ == "__main__":
    unittest.main()
