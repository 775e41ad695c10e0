"""Tests of the errors of scripts/lib/check_onnx.py; they need no packages."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

LIB = Path(__file__).resolve().parents[1] / "lib"
sys.path.insert(0, str(LIB))

import check_onnx  # noqa: E402


class Harness(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.program = Path(folder.name) / "harness"

    def fake(self, script):
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(self.program, 0o755)
        return str(self.program)

    def test_exit_codes_0_and_1_are_not_failures(self):
        self.assertEqual(check_onnx.harness(self.fake("exit 0")), 0)
        self.assertEqual(check_onnx.harness(self.fake("exit 1")), 1)

    def test_a_failure_has_the_message_of_the_harness(self):
        for line in ("harness: no such thing", "error: no such thing"):
            program = self.fake(f"echo building >&2; echo '{line}' >&2; echo 'try --help' >&2; exit 2")
            with self.assertRaisesRegex(check_onnx.Failure, "^no such thing$"):
                check_onnx.harness(program)

    def test_the_program_reports_it_in_one_line(self):
        program = self.fake("echo 'harness: no such thing' >&2; exit 2")
        result = subprocess.run(
            [sys.executable, str(LIB / "check_onnx.py"), program], capture_output=True, text=True
        )
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertEqual(result.stderr, "check_onnx: no such thing\n")


if __name__ == "__main__":
    unittest.main()
