"""A short run of scripts/check_exports: files of both exporters of torch.onnx, right and with mistakes."""

import os
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPORTERS = os.environ.get("HARNESS_EXPORTERS")
BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "harness"


@unittest.skipUnless(EXPORTERS, "pytorch: exporting a model as ONNX needs it")
@unittest.skipUnless(BINARY.exists(), "pytorch: the release build of the harness judges the exported files")
class Exports(unittest.TestCase):
    def test_right_ports_pass_and_mistakes_are_found_at_their_module(self):
        program = [EXPORTERS, str(ROOT / "scripts/lib/check_exports.py"), str(BINARY), "--quick"]
        done = subprocess.run(program, capture_output=True, text=True)
        wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
        self.assertEqual((done.returncode, wrong), (0, []), done.stdout[-2000:] + done.stderr[-2000:])
        self.assertIn("right ports: 6 of 6 pass; mistakes: 10 of 10", done.stdout)


if __name__ == "__main__":
    unittest.main()
