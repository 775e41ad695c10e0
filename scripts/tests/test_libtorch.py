"""Tests of the set-up of libtorch: what it extracts from a wheel, and what a failure leaves behind."""

import contextlib
import io
import os
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import libtorch  # noqa: E402

NEEDED = ("torch/lib/libtorch_cpu.so", "torch/include/torch/csrc/api/include/torch/torch.h")


def fake_pip(folder, body):
    """A fake Python that runs `body` as a shell script; $dest is the folder for the download."""
    script = folder / "python"
    find_dest = 'while [ $# -gt 0 ]; do [ "$1" = --dest ] && dest=$2; shift; done'
    script.write_text(f"#!/bin/sh\n{find_dest}\n{body}\n")
    script.chmod(0o755)
    return str(script)


class Wanted(unittest.TestCase):
    def test_cpu_takes_headers_and_the_linked_libraries(self):
        for name in NEEDED + ("torch/lib/libgomp.so.1", "nvidia/cu13/lib/libcudart.so.13"):
            self.assertTrue(libtorch.wanted(name, "cpu"), name)

    def test_cpu_leaves_cuda_and_python_out(self):
        for name in ("torch/lib/libtorch_cuda.so", "torch/lib/libtorch_python.so", "torch/__init__.py"):
            self.assertFalse(libtorch.wanted(name, "cpu"), name)
        self.assertFalse(libtorch.wanted("nvidia/cudnn/lib/libcudnn.so.9", "cpu"))

    def test_cuda_adds_its_libraries(self):
        for name in ("torch/lib/libtorch_cuda.so", "nvidia/cudnn/lib/libcudnn.so.9"):
            self.assertTrue(libtorch.wanted(name, "cuda"), name)

    def test_no_name_leads_out_of_the_folder(self):
        self.assertFalse(libtorch.wanted("torch/include/../../../x", "cuda"))


class Provide(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.target = self.root / ".libtorch"

    def make_wheel(self, names):
        wheel = self.root / "fake.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in names:
                archive.writestr(name, name)
        return wheel

    def run_with(self, body, free=1 << 40):
        """Runs the set-up with a fake pip; returns its exit code and its messages."""
        python, said = fake_pip(self.root, body), io.StringIO()
        usage = mock.Mock(free=free)
        with (
            mock.patch.object(libtorch, "python_with_pip", return_value=python),
            mock.patch.object(libtorch.shutil, "disk_usage", return_value=usage),
            mock.patch.object(libtorch.sys, "stderr", Said(said)),
        ):
            code = libtorch.main(str(self.root), "cpu", "abc")
        return code, said.getvalue()

    def assert_nothing_half_made(self):
        self.assertFalse((self.root / ".libtorch.partial").exists())
        self.assertFalse((self.root / ".libtorch.old").exists())

    def test_unpacks_and_stamps(self):
        wheel = self.make_wheel(NEEDED + ("torch/lib/libtorch_python.so",))
        code, _ = self.run_with(f"cp '{wheel}' \"$dest\"")
        self.assertEqual(code, 0)
        self.assertEqual((self.target / "stamp").read_text(), "cpu abc\n")
        self.assertEqual((self.target / "torch/build-version").read_text(), "2.11.0\n")
        self.assertFalse((self.target / "torch/lib/libtorch_python.so").exists())
        self.assert_nothing_half_made()

    def test_a_current_folder_is_left_alone(self):
        self.target.mkdir()
        (self.target / "stamp").write_text("cpu abc\n")
        self.assertEqual(self.run_with("exit 1"), (0, ""))

    def test_a_failed_download_keeps_what_was_there(self):
        self.target.mkdir()
        (self.target / "stamp").write_text("cpu old\n")
        code, said = self.run_with("echo 'ERROR: no route to the index' >&2; exit 1")
        self.assertEqual(code, 2)
        self.assertIn("no route to the index", said)
        self.assertIn("run this again", said.splitlines()[-1])
        self.assertEqual((self.target / "stamp").read_text(), "cpu old\n")
        self.assert_nothing_half_made()

    def test_a_wrong_hash_is_reported_as_one(self):
        code, said = self.run_with("echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES' >&2; exit 1")
        self.assertEqual(code, 2)
        self.assertIn("is not the one that scripts/requirements/libtorch.txt pins", said)

    def test_a_broken_wheel_is_named(self):
        code, said = self.run_with('echo no zip > "$dest/broken.whl"')
        self.assertEqual(code, 2)
        self.assertIn("broken.whl could not be unpacked", said)
        self.assertFalse(self.target.exists())
        self.assert_nothing_half_made()

    def test_a_wheel_without_the_library_is_refused(self):
        wheel = self.make_wheel(NEEDED[1:])
        code, said = self.run_with(f"cp '{wheel}' \"$dest\"")
        self.assertEqual(code, 2)
        self.assertIn("does not contain torch/lib/libtorch_cpu.so", said)

    def test_a_full_disk_is_noticed_before_the_download(self):
        code, said = self.run_with("exit 1", free=1 << 30)
        self.assertEqual(code, 2)
        self.assertIn("needs 2 GiB", said)
        self.assertIn("1.0 GiB are free", said)

    def test_another_architecture_is_refused(self):
        with mock.patch.object(libtorch.platform, "machine", return_value="aarch64"):
            code, said = self.run_with("exit 1")
        self.assertEqual(code, 2)
        self.assertIn("Linux on aarch64", said)


class Said(io.TextIOBase):
    """Replaces stderr: collects what Python prints, and gives child processes a file to write to."""

    def __init__(self, sink):
        self.sink = sink
        self.null = open(os.devnull, "w")

    def write(self, text):
        return self.sink.write(text)

    def fileno(self):
        return self.null.fileno()

    def close(self):
        self.null.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        unittest.main()
