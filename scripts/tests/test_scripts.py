"""Tests that all scripts parse, and that they refuse unknown arguments in one sentence."""

import ast
import os
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
