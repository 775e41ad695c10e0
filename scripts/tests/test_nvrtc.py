"""Tests of the set-up of NVRTC: what it extracts from a wheel and what it refuses."""

import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import nvrtc  # noqa: E402
import tools  # noqa: E402
from libtorch import Failure  # noqa: E402


def wheel(folder, *names):
    path = Path(folder) / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


class Take(unittest.TestCase):
    def test_only_the_compiler_and_its_built_ins_are_extracted(self):
        with tempfile.TemporaryDirectory() as folder:
            names = ("libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libnvrtc.alt.so.13", "nvrtc.h")
            made = wheel(folder, *(f"nvidia/cu13/lib/{name}" for name in names), "../libnvrtc.so.13")
            into = Path(folder) / "into"
            into.mkdir()
            nvrtc.take(made, into)
            self.assertEqual(sorted(path.name for path in into.iterdir()), sorted(names[:2]))

    def test_a_wheel_without_it_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaises(Failure):
            nvrtc.take(wheel(folder, "nvidia/cu13/lib/libnvrtc-builtins.so.13.0"), Path(folder))


class Provide(unittest.TestCase):
    def test_an_existing_folder_is_left_unchanged(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / ".tools" / "nvrtc").mkdir(parents=True)
            tools.provide(Path(folder), "nvrtc", self.fail, self.fail)

    def test_an_unsuitable_machine_leaves_nothing_behind(self):
        def refuse():
            raise Failure("no")

        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaises(Failure):
                tools.provide(Path(folder), "nvrtc", refuse, self.fail)
            self.assertEqual(list(Path(folder).iterdir()), [])


if __name__ == "__main__":
    unittest.main()
