"""Runs the tests of the scripts and lists those that were skipped.

    python3 run_tests.py [FOLDER]       FOLDER is scripts/tests by default

The reason of a skip must be "KIND: SENTENCE", where KIND is one of scripts/skip/kinds.tsv. Skips are appended to the
file that HARNESS_SKIPS names (see skips.py). Uses only the standard library.
"""

import os
import sys
import unittest
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


def main(folder):
    found = unittest.defaultTestLoader.discover(folder)
    result = unittest.TextTestRunner(verbosity=0).run(found)
    note(result.skipped, os.environ.get("HARNESS_SKIPS"))
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else str(Path(__file__).resolve().parents[1] / "tests")))
