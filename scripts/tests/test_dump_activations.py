"""Tests of formula.py and dump_activations.py. Each part is skipped if its package is not installed."""

import contextlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SCRIPTS))


def has(package):
    return importlib.util.find_spec(package) is not None


if has("numpy"):
    import dump_activations
    import formula
    import numpy as np


@unittest.skipUnless(has("numpy"), "numpy: dump_activations.py and formula.py need it")
class Formula(unittest.TestCase):
    def test_input(self):
        expected = np.array([[-1.6087267398834229, 0.6094415187835693, -1.1855030059814453]], np.float32)
        self.assertEqual(formula.clip((1, 3)).tolist(), expected.tolist())

    def test_parameter(self):
        found = formula.parameter("backbone.net.conv1.weight", (1, 2, 1, 1)).ravel()
        self.assertEqual(found.tolist(), np.array([-0.4655068516731262, -1.069894552230835], np.float32).tolist())

    def test_names(self):
        self.assertEqual(formula.official_name("fc.bias"), "cls_head.fc_cls.bias")
        self.assertEqual(formula.official_name("bn1.bias"), "backbone.net.bn1.bias")


@unittest.skipUnless(has("numpy"), "numpy: dump_activations.py and formula.py need it")
class Refusals(unittest.TestCase):
    def refused(self, *arguments):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = dump_activations.main(["torch", "--model", "m:f", "--out", "x.npz", *arguments])
        self.assertEqual(code, 2)
        return said.getvalue()

    def test_size(self):
        self.assertIn("--size is '0'", self.refused("--size", "0"))

    def test_seed(self):
        self.assertIn("formula:SEED", self.refused("--input", "formula:x"))

    def test_missing_input(self):
        self.assertIn("correct the path", self.refused("--input", "nowhere.npy"))

    def test_input_of_another_shape(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.npy"
            np.save(path, np.zeros((1, 3, 2, 4, 4), np.float32))
            self.assertIn(
                "has shape [1, 3, 2, 4, 4], expected [1, 3, 16, 4, 4]",
                self.refused("--input", str(path), "--size", "4"),
            )

    def test_missing_module(self):
        self.assertIn("could not be imported", self.refused("--model", "no_such_module:f", "--size", "4"))

    def test_a_pickle_that_calls_a_function_is_refused(self):
        class Hostile:
            def __reduce__(self):
                return print, ("executed",)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hostile.pkl"
            path.write_bytes(pickle.dumps(Hostile()))
            with self.assertRaisesRegex(dump_activations.Failure, "builtins.print"):
                dump_activations.load_flax_checkpoint(path)


TORCH_PYTHON = os.environ.get("HARNESS_TORCH_PYTHON")


class TorchHooksElsewhere(unittest.TestCase if not has("torch") else object):
    """Runs the tests of the hooks with the Python that has PyTorch."""

    @unittest.skipUnless(TORCH_PYTHON, "pytorch: the hooks of dump_activations.py need it")
    def test_hooks(self):
        command = [TORCH_PYTHON, "-m", "unittest", f"{Path(__file__).stem}.TorchHooks"]
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("Ran 2 tests", run.stderr)


# Without PyTorch, TorchHooksElsewhere runs these tests.
class TorchHooks(unittest.TestCase if has("numpy") and has("torch") else object):
    def test_a_relu_in_place_does_not_overwrite_the_norm(self):
        import torch

        model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.ReLU(inplace=True)).eval()
        found = dump_activations.torch_activations(model, np.full((1, 3), -1, np.float32))
        self.assertTrue((found["0"] < 0).all())
        self.assertTrue((found["logits"] == 0).all())

    def test_a_module_that_runs_twice_is_left_out(self):
        import torch

        layer, said = torch.nn.Linear(2, 2), io.StringIO()
        with contextlib.redirect_stderr(said):
            found = dump_activations.torch_activations(Twice(layer), np.ones((1, 2), np.float32))
        self.assertEqual(list(found), ["logits"])
        self.assertIn("layer is left out: it runs more than once", said.getvalue())


if has("torch"):
    import torch

    class Twice(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(self.layer(x))


if __name__ == "__main__":
    unittest.main()
