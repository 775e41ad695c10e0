"""Runs the tests of the scripts and lists those that were skipped.

    python3 run_tests.py [FOLDER]        all files test_*.py, in as many processes as there are cores; FOLDER is
                                         scripts/tests by default
    python3 run_tests.py FOLDER FILE     one of them

The reason of a skip must be "KIND: SENTENCE", where KIND is one of scripts/skip/kinds.tsv. Skips are appended to the
file that HARNESS_SKIPS names (see skips.py). Uses only the standard library.
"""

import os
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import skips


def note(skipped, path):
    """Prints unittest's pairs of test and reason and appends them to the list, once for each module and reason."""
    for module, reason in sorted({(type(test).__module__, reason) for test, reason in skipped}):
        kind, colon, sentence = reason.partition(": ")
        if not colon:
            kind, sentence = "unknown", reason
        sentence = f"scripts {module}: {sentence}"
        print(f"skipped: {sentence} ({kind})", file=sys.stderr)
        if path:
            skips.append(path, kind, sentence)


def run_file(folder, file):
    """Runs one file of tests in this process. Returns the exit code, which is 1 if there was none to run."""
    found = unittest.defaultTestLoader.discover(folder, file)
    result = unittest.TextTestRunner(verbosity=0).run(found)
    note(result.skipped, os.environ.get("HARNESS_SKIPS"))
    return 0 if result.wasSuccessful() and result.testsRun else 1


def run_in_process(folder, file):
    """Runs one file of tests in a process of its own, and prints its output when it has ended."""
    command = [sys.executable, __file__, folder, file]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sys.stderr.write(f"{file}: {result.stdout.decode(errors='replace').strip()}\n")
    return result.returncode


def run_all(folder):
    files = sorted(path.name for path in Path(folder).glob("test_*.py"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        codes = list(pool.map(lambda file: run_in_process(folder, file), files))
    return 1 if not codes or any(codes) else 0


if __name__ == "__main__":
    folder, *file = sys.argv[1:] or [str(Path(__file__).resolve().parents[1] / "tests")]
    sys.exit(run_file(folder, file[0]) if file else run_all(folder))
