"""Tests of the list of skipped tests: how it is written and shown, and which skips .ci/run accepts."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

LIB = Path(__file__).resolve().parents[1] / "lib"
ROOT = LIB.parents[1]
sys.path.insert(0, str(LIB))

import skips  # noqa: E402


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.list = self.folder / "skips"


class List(WithFolder):
    def test_a_line_is_listed_once_and_stays_one_line(self):
        for sentence in ("cpu kernels: no amx", "cpu kernels: no\n amx", "cpu engine: no amx"):
            skips.append(self.list, "isa", sentence)
        self.assertEqual(skips.read(self.list), [("isa", "cpu engine: no amx"), ("isa", "cpu kernels: no amx")])

    def test_it_is_shown_by_kind_with_what_the_tests_need(self):
        lines = skips.show([("gxx", "cuda kernels: none"), ("isa", "cpu engine: a"), ("isa", "cpu engine: b")], False)
        self.assertEqual(lines[0], "skipped on this machine:")
        self.assertRegex(lines[1], "^  gxx, needs .*install g")
        self.assertEqual(lines[2], "    cuda kernels: none")
        self.assertRegex(lines[3], "^  isa, needs a processor")
        self.assertEqual(lines[4:], ["    cpu engine: a", "    cpu engine: b"])

    def test_an_empty_list_is_reported(self):
        self.assertEqual(skips.show([], False), ["nothing was skipped"])
        self.assertEqual(skips.show([], True), ["nothing was skipped before the failure"])


class Sources(unittest.TestCase):
    def test_no_test_in_rust_prints_a_skip_that_libtest_hides(self):
        folders = [ROOT / name for name in ("experiments", "impls", "reference", "reports")]
        files = [path for folder in folders for path in folder.rglob("*.rs")]
        files = [path for path in files if "target" not in path.relative_to(ROOT).parts]
        self.assertGreater(len(files), 100)
        mute = re.compile(r'print(ln)?!\("skip')
        found = [str(path) for path in files if mute.search(path.read_text(encoding="utf-8"))]
        self.assertEqual(found, [], "use skip::skip!(Kind, ...), which scripts/test lists")


class Rule(WithFolder):
    """The rule by which .ci/run accepts skips."""

    def test_what_can_be_installed_is_not_justified(self):
        for kind in ("ffmpeg", "nvrtc", "gxx", "numpy", "onnxruntime", "a-new-kind", ""):
            with self.subTest(kind=kind):
                (line,) = skips.check([(kind, "cuda kernels: none")])
                expected = f"cuda kernels: none: no machine justifies skips of kind '{kind}'; the test needs ."
                self.assertRegex(line, expected)

    def test_what_the_machine_lacks_is_justified(self):
        justified = [("isa", "cpu engine: this processor has no avx512"), ("isa", "harness bench: it has all")]
        justified += [(kind, "torch engine: some test") for kind in ("gpu", "feature", "chromium")]
        self.assertEqual(skips.check(justified, flags={"avx2", "fma", "avx512f"}), [])

    def test_an_existing_instruction_set_is_not_justified(self):
        for name in ("avx2", "avx512", "avx512bf16"):
            (line,) = skips.check([("isa", f"cpu engine: this processor has no {name}")], flags=skips.FLAGS[name])
            self.assertIn("the processor has it", line)

    def test_a_missing_shared_folder_is_justified_only_if_it_is_missing(self):
        skip, root = [("shared", "video goldens: ../shared/clips is not here")], self.folder / "clone"
        root.mkdir()
        self.assertEqual(skips.check(skip, root=root), [])
        (self.folder / "shared" / "clips").mkdir(parents=True)
        self.assertIn("../shared/clips exists", skips.check(skip, root=root)[0])

    def test_as_a_program(self):
        def program():
            command = [sys.executable, str(LIB / "skips.py"), "check", str(self.list)]
            result = subprocess.run(command, capture_output=True, text=True)
            return result.returncode, result.stderr

        self.assertEqual(program()[0], 2)
        skips.append(self.list, "chromium", "reports browser: no browser")
        self.assertEqual(program(), (0, ""))
        skips.append(self.list, "nvrtc", "cuda compile: no libnvrtc")
        code, said = program()
        self.assertEqual((code, len(said.splitlines())), (1, 1), said)
        self.assertTrue(said.startswith("skips: cuda compile: no libnvrtc: no machine justifies"), said)


class Ci(WithFolder):
    """Tests of .ci/run in a copy of the repository with fake tests; cargo and the set-up do nothing."""

    def setUp(self):
        super().setUp()
        for name in (".ci/run", "scripts/lib/common.sh", "scripts/lib/skips.py", "scripts/skip/kinds.tsv"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        deny = re.search("^DENY_VERSION=(.*)$", text, re.MULTILINE)[1]
        for name in ("bin/cargo", "scripts/setup", "scripts/wheel", f".tools/cargo-deny-{deny}/bin/cargo-deny"):
            self.program(name, "exit 0")
        self.program("scripts/stranger", 'exec "$@"')

    def program(self, name, script):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run_ci(self):
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        environment.pop("CI", None)
        result = subprocess.run([self.folder / ".ci" / "run"], capture_output=True, text=True, env=environment)
        return result.returncode, result.stderr

    def test_a_justified_skip_passes(self):
        self.program("scripts/test", 'printf "chromium\\treports browser: none\\n" >"$HARNESS_SKIPS"')
        code, said = self.run_ci()
        self.assertEqual(code, 0, said)
        self.assertIn("for: tests_without_libtorch", said)

    def test_another_skip_fails_with_its_sentence(self):
        self.program("scripts/test", 'printf "gxx\\tcuda kernels: no g++\\n" >"$HARNESS_SKIPS"')
        code, said = self.run_ci()
        self.assertEqual((code, said.splitlines()[-1]), (1, "ci: failed: tests"), said)
        self.assertIn("skips: cuda kernels: no g++: no machine justifies", said)

    def test_the_rule_also_applies_without_libtorch(self):
        self.program("scripts/test", 'printf "%s" "${1:+nvrtc\tcuda compile: none}" >"$HARNESS_SKIPS"')
        code, said = self.run_ci()
        self.assertEqual((code, said.splitlines()[-1]), (1, "ci: failed: tests_without_libtorch"), said)

    def test_a_missing_list_and_failing_tests_are_failures(self):
        for script in ("exit 0", ': >"$HARNESS_SKIPS"; exit 101'):
            self.program("scripts/test", script)
            code, said = self.run_ci()
            self.assertEqual((code, said.splitlines()[-1]), (1, "ci: failed: tests"), said)


class PythonTests(WithFolder):
    def run_tests(self, body):
        """Runs run_tests.py on one file of tests; returns its exit code and the listed skips."""
        tests = self.folder / "tests"
        tests.mkdir()
        (tests / "test_some.py").write_text(f"import unittest\nclass Some(unittest.TestCase):\n{body}")
        environment = {**os.environ, "HARNESS_SKIPS": str(self.list)}
        command = [sys.executable, str(LIB / "run_tests.py"), str(tests)]
        code = subprocess.run(command, capture_output=True, env=environment).returncode
        return code, skips.read(self.list) if self.list.exists() else []

    def test_a_skip_is_listed(self):
        body = "    @unittest.skip('numpy: it is not here')\n    def test_a(self): pass\n"
        self.assertEqual(self.run_tests(body), (0, [("numpy", "scripts test_some: it is not here")]))

    def test_a_reason_without_a_kind_is_not_justified(self):
        code, found = self.run_tests("    @unittest.skip('not today')\n    def test_a(self): pass\n")
        self.assertEqual((code, found), (0, [("unknown", "scripts test_some: not today")]))
        self.assertEqual(len(skips.check(found)), 1)

    def test_failures_and_an_empty_folder_fail(self):
        self.assertEqual(self.run_tests("    def test_a(self): self.fail()\n"), (1, []))


class Stranger(WithFolder):
    def stranger(self, *command, **environment):
        everything = {**os.environ, **environment}
        return subprocess.run(
            [str(ROOT / "scripts" / "stranger"), *command], capture_output=True, text=True, env=everything
        )

    def test_the_environment_of_the_command(self):
        site = self.folder / "site"
        site.mkdir()
        (site / "by_hand.py").write_text("")
        code = """if True:
            import importlib.util, os, pathlib, sys
            print([path.name for path in pathlib.Path.home().iterdir()], sys.prefix == f"{pathlib.Path.home()}/python")
            print(importlib.util.find_spec("by_hand"), os.environ.get("HARNESS_PEERS"), os.environ.get("SECRET"))
            print(os.environ["PIP_DEFAULT_TIMEOUT"], os.environ["CARGO_HOME"])
            sys.exit(7)"""
        mine = {"PYTHONPATH": str(site), "HARNESS_PEERS": "python3", "SECRET": "x", "TMPDIR": str(self.folder)}
        kept = {"PIP_DEFAULT_TIMEOUT": "77", "CARGO_HOME": "/some/cargo"}
        result = self.stranger("python3", "-c", code, **mine, **kept)
        self.assertEqual(result.stdout, "['python'] True\nNone None None\n77 /some/cargo\n", result.stderr)
        self.assertEqual(result.returncode, 7, "the command's own exit code")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["site"], "the temporary home was left behind")

    def test_without_a_command_it_is_refused_in_one_line(self):
        result = self.stranger()
        self.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1), result.stderr)


if __name__ == "__main__":
    unittest.main()
