"""Tests that the goldens are those of the manifest, byte for byte."""

import hashlib
import json
import unittest
from pathlib import Path

GOLDENS = Path(__file__).resolve().parents[2] / "reference" / "goldens"
ENTRIES = json.loads((GOLDENS / "manifest.json").read_text(encoding="utf-8"))["files"]


class Manifest(unittest.TestCase):
    def test_hashes(self):
        for entry in ENTRIES:
            with self.subTest(file=entry["file"]):
                found = hashlib.sha256((GOLDENS / entry["file"]).read_bytes()).hexdigest()
                self.assertEqual(found, entry["sha256"], f"remake it: {entry['remake']}")

    def test_every_file_is_listed(self):
        listed = {entry["file"] for entry in ENTRIES} | {"manifest.json", "README.md"}
        found = {path.relative_to(GOLDENS).as_posix() for path in GOLDENS.rglob("*") if path.is_file()}
        stray = {name for name in found - listed if not name.startswith("checkpoints/")}
        self.assertEqual(stray, set(), "list them with scripts/make_goldens.py, or remove them")


if __name__ == "__main__":
    unittest.main()
