"""Tests of the set-up of ffmpeg: what it extracts from a wheel and what it refuses."""

import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import ffmpeg  # noqa: E402
from libtorch import Failure  # noqa: E402


def wheel(folder, files):
    path = Path(folder) / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


class Take(unittest.TestCase):
    def test_the_program_is_extracted_and_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            script = "#!/bin/sh\necho ffmpeg version 7.0.2-static\n"
            made = wheel(folder, {"imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v7.0.2": script})
            ffmpeg.take(made, Path(folder))
            self.assertTrue((Path(folder) / "ffmpeg").stat().st_mode & 0o100)

    def test_what_does_not_run_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            made = wheel(folder, {"imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v7.0.2": "#!/bin/sh\nexit 1\n"})
            with self.assertRaises(Failure):
                ffmpeg.take(made, Path(folder))

    def test_a_wheel_without_it_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaises(Failure):
            ffmpeg.take(wheel(folder, {"imageio_ffmpeg/__init__.py": ""}), Path(folder))


if __name__ == "__main__":
    unittest.main()
