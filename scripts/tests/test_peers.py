"""Tests that the other runtimes, as the harness starts them, report to nobody."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / "experiments/harness/src/engines"

# Packages like those of OpenVINO: importing one imports the other, if it is there.
FAKES = {
    "openvino": "__version__ = '1'\nclass Core: pass\ntry:\n    import openvino_telemetry\nexcept ImportError: pass\n",
    "openvino_telemetry": "print('reported')\n",
}
BENCH = "from peers.from_onnx import OpenVino\nOpenVino()\n"
# What the harness names its channel, without a harness at its other end.
DIFF = """
import harness_channel
harness_channel.Channel = lambda: harness_channel.Failure
harness_channel.serve = lambda *_: None
import runtime
runtime.OpenVino(1, "cpu")
"""


class Reports(unittest.TestCase):
    def run_with_fakes(self, code, *folders):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in FAKES.items():
                (Path(folder) / f"{name}.py").write_text(text)
            (Path(folder) / "harness_channel.py").write_text((ENGINES / "worker/channel.py").read_text())
            paths = ":".join([folder, *map(str, folders)])
            run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": paths})
            self.assertEqual(run.returncode, 0, run.stderr)
            return run.stdout

    def test_the_fakes_report_where_nothing_is_done_against_it(self):
        self.assertEqual(self.run_with_fakes("import openvino"), "reported\n")

    def test_bench_imports_openvino_without_its_reports(self):
        self.assertEqual(self.run_with_fakes(BENCH, ROOT / "scripts/lib"), "")

    def test_diff_imports_openvino_without_its_reports(self):
        self.assertEqual(self.run_with_fakes(DIFF, ENGINES / "onnx"), "")


if __name__ == "__main__":
    unittest.main()
