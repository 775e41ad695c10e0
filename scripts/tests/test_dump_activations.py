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


    def test_a_function_that_fails_is_one_sentence(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "port.py"
            path.write_text("def make():\n    return 1 / 0\n")
            said = self.refused("--model", f"{path}:make", "--size", "4")
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertIn("failed at port.py, line 2 (ZeroDivisionError: division by zero)", said)
        self.assertIn("--kwargs", said)


class WithoutNumpy(unittest.TestCase):
    """A package that fails to be imported stands for one that is not there."""

    def run_script(self, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "numpy.py").write_text("raise ModuleNotFoundError('no numpy')\n")
            command = [sys.executable, str(SCRIPTS / "dump_activations.py"), *arguments]
            environment = {**os.environ, "PYTHONPATH": folder}
            return subprocess.run(command, capture_output=True, text=True, env=environment)

    def test_it_is_said_in_one_sentence(self):
        run = self.run_script("torch", "--model", "m:f", "--out", "x.npz")
        self.assertEqual((run.returncode, len(run.stderr.splitlines())), (2, 1), run.stderr)
        self.assertIn("has no numpy", run.stderr)

    def test_help_needs_none(self):
        run = self.run_script("--help")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertIn("--layout", run.stdout)


TORCH_PYTHON = os.environ.get("HARNESS_TORCH_PYTHON")


FLAX_PYTHON = os.environ.get("HARNESS_FLAX_PYTHON")


class Elsewhere(unittest.TestCase):
    """Runs the tests of a framework with the Python that has it."""

    def run_with(self, python, name, count):
        command = [python, "-m", "unittest", f"{Path(__file__).stem}.{name}"]
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(f"Ran {count} tests", run.stderr)

    @unittest.skipUnless(TORCH_PYTHON or has("torch"), "pytorch: the hooks of dump_activations.py need it")
    def test_torch(self):
        self.run_with(TORCH_PYTHON or sys.executable, "TorchHooks", 5)

    @unittest.skipUnless(FLAX_PYTHON or has("flax"), "flax: the Flax part of dump_activations.py needs it")
    def test_flax(self):
        self.run_with(FLAX_PYTHON or sys.executable, "Flax", 4)


# Without PyTorch, Elsewhere runs these tests.
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


    def test_a_norm_in_training_mode_is_refused(self):
        import torch

        frozen = torch.nn.Sequential(torch.nn.BatchNorm1d(3, track_running_stats=False)).eval()
        for model in (torch.nn.Sequential(torch.nn.BatchNorm1d(3)).train(), frozen):
            with self.assertRaisesRegex(dump_activations.Failure, "the normalisation 0 is in training mode"):
                dump_activations.torch_activations(model, np.ones((2, 3), np.float32))

    def refused(self, *arguments):
        said = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(said):
            path = Path(folder) / "port.py"
            path.write_text("import torch\n\ndef make():\n    return torch.nn.Conv3d(3, 4, 3)\n")
            fixed = ["torch", "--model", f"{path}:make", "--out", str(Path(folder) / "x.npz"), "--size", "8"]
            self.assertEqual(dump_activations.main([*fixed, *arguments]), 2)
            self.assertFalse((Path(folder) / "x.npz").exists())
        self.assertEqual(len(said.getvalue().splitlines()), 1, said.getvalue())
        return said.getvalue()

    def test_a_wrong_layout_is_one_sentence(self):
        said = self.refused("--frames", "4", "--layout", "nthwc")
        self.assertIn("a clip [1, 4, 8, 8, 3] in the layout nthwc", said)
        self.assertIn("use --layout ncthw", said)

    def test_a_clip_that_is_too_small_is_one_sentence(self):
        self.assertIn("--frames and --size", self.refused("--frames", "2"))


if has("torch"):
    import torch

    class Twice(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(self.layer(x))


FLAX_PORT = """
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx


class Port(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="conv1")(x.mean(axis=1))
        return nn.BatchNorm(use_running_average=not self.train, name="bn1")(x)


def linen(train=False):
    variables = Port().init(jax.random.PRNGKey(0), jnp.zeros((1, 4, 8, 8, 3)))
    return Port(train), variables


def of_nnx():
    return nnx.Linear(3, 2, rngs=nnx.Rngs(0))
"""


# Without Flax, Elsewhere runs these tests.
class Flax(unittest.TestCase if has("numpy") and has("flax") else object):
    def dump(self, function, *arguments):
        said = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(said):
            path = Path(folder) / "flax_port_of_a_test.py"
            path.write_text(FLAX_PORT)
            fixed = ["flax", "--model", f"{path}:{function}", "--out", str(Path(folder) / "x.npz")]
            with contextlib.redirect_stdout(io.StringIO()):
                code = dump_activations.main([*fixed, "--frames", "4", "--size", "8", *arguments])
        return code, said.getvalue()

    def assert_refused(self, result, words):
        code, said = result
        self.assertEqual((code, len(said.splitlines())), (2, 1), said)
        self.assertIn(words, said)

    def test_a_good_model_is_dumped(self):
        self.assertEqual(self.dump("linen", "--layout", "nthwc"), (0, ""))

    def test_a_norm_in_training_mode_is_refused(self):
        result = self.dump("linen", "--layout", "nthwc", "--kwargs", '{"train": true}')
        self.assert_refused(result, "as a BatchNorm in training mode does")

    def test_a_wrong_layout_is_refused(self):
        self.assert_refused(self.dump("linen"), "another layout than ncthw, use --layout")

    def test_nnx_is_refused(self):
        self.assert_refused(self.dump("of_nnx"), "a Flax NNX module")


if __name__ == "__main__":
    unittest.main()
