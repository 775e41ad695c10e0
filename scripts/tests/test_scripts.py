"""Tests that all scripts parse, and that they refuse unknown arguments in one sentence."""

import ast
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
ROOT = SCRIPTS.parent


def first_line(path):
    with open(path, encoding="utf-8") as file:
        return file.readline()


def run(*command, **environment):
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=tempfile.gettempdir()
    )


class Syntax(unittest.TestCase):
    def test_python(self):
        for path in sorted(SCRIPTS.rglob("*.py")):
            with self.subTest(path=path.name):
                ast.parse(path.read_text(encoding="utf-8"), str(path))

    def test_bash(self):
        scripts = [path for path in SCRIPTS.iterdir() if path.is_file() and "bash" in first_line(path)]
        self.assertGreaterEqual(len(scripts), 4)
        others = [SCRIPTS / "lib" / "common.sh", SCRIPTS / "lib" / "with_slurm", ROOT / ".ci" / "run"]
        for path in [*scripts, *others, *(SCRIPTS / "cluster").glob("*.sh")]:
            with self.subTest(path=path.name):
                self.assertEqual(run("bash", "-n", str(path)).stderr, "")


class Help(unittest.TestCase):
    """Every script says what it does and which flags it takes, before anything is set up."""

    # Their program lists its flags; it may have to be built first.
    OF_A_PROGRAM = {"harness", "bench"}

    def scripts(self):
        places = [*SCRIPTS.iterdir(), *(SCRIPTS / "ci").iterdir()]
        files = (path for path in places if path.is_file() and path.name not in self.OF_A_PROGRAM)
        return sorted(path for path in files if "bash" in first_line(path) or self.is_program(path))

    def is_program(self, path):
        return path.suffix == ".py" and "__main__" in path.read_text(encoding="utf-8")

    def test_every_script_answers_help(self):
        self.assertGreater(len(self.scripts()), 15)
        for path in self.scripts():
            with self.subTest(path=path.name):
                program = ["python3"] if path.suffix == ".py" else ["bash"]
                result = run(*program, str(path), "--help")
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertIn(path.name, result.stdout)
                self.assertFalse(any(line.startswith(("#", "set -")) for line in result.stdout.splitlines()))

    def test_check_onnx_lists_its_flags(self):
        said = run(str(SCRIPTS / "check_onnx"), "--help").stdout
        for flag in ("--opset", "--weights", "--batch-size", "--depth", "--pos-dim", "--set"):
            self.assertIn(flag, said)


class WithoutCargo(unittest.TestCase):
    """scripts/harness runs what was built before, as long as nothing has changed."""

    TOOLS = ("bash", "dirname", "basename", "sed", "find", "env", "cat")

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "clone"
        (self.root / "scripts" / "lib").mkdir(parents=True)
        for name in ("harness", "setup", "lib/common.sh"):
            shutil.copy(SCRIPTS / name, self.root / "scripts" / name)
        for name in ("reference", "impls", "experiments", "reports", ".cargo", "target/release"):
            (self.root / name).mkdir(parents=True)
        (self.root / "Cargo.toml").write_text('rust-version = "1.95"\n')
        (self.root / "Cargo.lock").write_text("")
        self.tools = Path(folder.name) / "bin"
        self.tools.mkdir()
        for tool in self.TOOLS:
            os.symlink(shutil.which(tool), self.tools / tool)
        self.binary = self.root / "target" / "release" / "harness"
        self.binary.write_text('#!/usr/bin/env bash\necho "ran $* in $PWD"\n')
        self.binary.chmod(0o755)

    def harness(self):
        bash = shutil.which("bash")
        return run(bash, str(self.root / "scripts" / "harness"), "info", PATH=str(self.tools), CARGO_TARGET_DIR="")

    def test_what_was_built_is_run_in_the_current_folder(self):
        result = self.harness()
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout, f"ran info in {os.path.realpath(tempfile.gettempdir())}\n")

    def test_a_newer_source_needs_cargo(self):
        later = self.binary.stat().st_mtime + 10
        source = self.root / "impls" / "lib.rs"
        source.write_text("")
        os.utime(source, (later, later))
        result = self.harness()
        self.assertEqual(result.returncode, 2)
        self.assertIn("cargo was not found", result.stderr)


class Refusals(unittest.TestCase):
    def assert_one_sentence(self, result, *parts):
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_setup_unknown_argument(self):
        self.assert_one_sentence(run(str(SCRIPTS / "setup"), "--gpu"), "'--gpu'", "--cuda")

    def test_setup_wrong_libtorch(self):
        # With FFMPEG set nothing is downloaded; a download would print another line.
        result = run(str(SCRIPTS / "setup"), LIBTORCH="/nowhere", FFMPEG="ffmpeg")
        self.assert_one_sentence(result, "LIBTORCH is '/nowhere'", "libtorch_cpu.so")

    def test_setup_without_cargo(self):
        with tempfile.TemporaryDirectory() as empty:
            for tool in ("bash", "dirname", "basename", "sed"):
                os.symlink(f"/usr/bin/{tool}", Path(empty) / tool)
            result = run("/usr/bin/bash", str(SCRIPTS / "setup"), PATH=empty)
        self.assert_one_sentence(result, "cargo was not found")

    def test_test_unknown_argument(self):
        self.assert_one_sentence(run(str(SCRIPTS / "test"), "--fast"), "'--fast'", "--no-libtorch")


if __name__ == "__main__":
    unittest.main()
