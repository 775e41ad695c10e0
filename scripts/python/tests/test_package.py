"""Tests of the installed package, run by scripts/wheel --test in an environment with torch and in one without."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from squeezetime_harness import Dump, HarnessError, Result, capture, compare

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = {"depth": 10, "width": 0.125, "classes": 7, "frames": 8, "size": 64}
FLAGS = [f"--{name}={value}" for name, value in SMALL.items()]
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
without_torch = pytest.mark.skipif(HAS_TORCH, reason="torch is installed")

pytest_plugins = ["pytester"]


def harness(*arguments, folder=None):
    program = Path(sys.executable).parent / "harness"
    return subprocess.run([program, *arguments], capture_output=True, text=True, cwd=folder)


def port():
    """The worked example in PyTorch, whose weights are formula:0."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    import torch_port

    config = {name: value for name, value in SMALL.items() if name != "size"}
    return torch_port.make_model(0, **config)


def test_the_program_compares_our_engines(tmp_path):
    run = harness("diff", "--candidate=cpu", "--reference=scalar", *FLAGS, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "PASS" in run.stdout


def test_python_m_is_the_same_program():
    run = subprocess.run([sys.executable, "-m", "squeezetime_harness", "--version"], capture_output=True, text=True)
    assert run.stdout.startswith("harness "), run.stderr


@without_torch
def test_without_torch_it_says_what_to_install(tmp_path):
    run = harness("diff", "--candidate=torch", *FLAGS, folder=tmp_path)
    assert run.returncode == 2
    assert "pip install 'torch==2.11.*'" in run.stderr


@needs_torch
def test_libtorch_is_that_of_the_installed_torch(tmp_path):
    run = harness("diff", "--candidate=cpu", "--reference=torch", *FLAGS, "--json=r.json", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "libtorch" in (tmp_path / "r.json").read_text()


@needs_torch
def test_a_right_port_passes_and_is_left_as_it_was():
    model = port().train()
    result = compare(model, "formula:0", **SMALL)
    assert isinstance(result, Result) and result.passed, str(result)
    assert result.first_divergent is None and result.explanation is None
    assert all(module.training for module in model.modules())
    assert any("training mode" in remark for remark in result.remarks)
    assert "second comparison, 2 clips of 57x65: pass" in str(result)
    assert "<iframe" in result._repr_html_()


@needs_torch
def test_a_wrong_port_is_a_result_and_its_weights_may_be_its_own():
    model = port()
    model.layer2[0].bn1.eps = 1e-3
    result = compare(model, **SMALL, edge=False)
    assert not result.passed
    assert result.first_divergent == "layer2.0.bn1"
    assert "eps 1e-3" in result.explanation
    assert [layer["name"] for layer in result.layers if layer["verdict"] == "diverged"] == ["layer2.0.bn1"]


@needs_torch
def test_a_clip_gives_the_frames_and_the_size():
    clip = np.random.default_rng(0).standard_normal((2, 3, 8, 64, 64), dtype=np.float32)
    result = compare(port(), "formula:0", clip=clip, depth=10, width=0.125, classes=7, edge=False)
    assert result.passed and result.layers[0]["shape"] == [2, 3, 8, 64, 64]


@needs_torch
def test_a_dump_is_compared_too(tmp_path):
    clip = np.random.default_rng(0).standard_normal((1, 3, 8, 64, 64), dtype=np.float32)
    dump = capture(port(), clip)
    assert isinstance(dump, Dump) and dump["conv1"].shape == (1, 8, 32, 32)
    result = compare(dump, "formula:0", depth=10, width=0.125, classes=7)
    assert result.first_divergent is None, str(result)
    run = harness("diff", f"--candidate=npz:{dump.save(tmp_path / 'd.npz')}", *FLAGS, folder=tmp_path)
    assert run.returncode == 0, run.stdout


@needs_torch
def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(HarnessError, match="check --depth"):
        compare(port(), "formula:0", **{**SMALL, "classes": 9})
    with pytest.raises(HarnessError, match="a torch.nn.Module"):
        compare(object())
    import torch

    class Broken(torch.nn.Module):
        def forward(self, clip):
            raise RuntimeError("it is broken")

    with pytest.raises(HarnessError, match="RuntimeError: it is broken"):
        compare(Broken(), "formula:0", **SMALL)


@needs_torch
def test_the_fixture_makes_a_test_of_a_port(pytester):
    pytester.makepyfile(
        f"""
        import sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        import torch_port
        SMALL = {SMALL!r}

        def model():
            return torch_port.make_model(0, **{{k: v for k, v in SMALL.items() if k != "size"}})

        def test_right(assert_port_matches):
            assert_port_matches(model(), "formula:0", **SMALL, edge=False)

        def test_wrong(assert_port_matches):
            wrong = model()
            wrong.layer1[0].bn1.eps = 1e-3
            assert_port_matches(wrong, "formula:0", **SMALL, edge=False)
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*first goes wrong at layer1.0: bn1*"])
