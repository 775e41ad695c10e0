"""The house: which crate may depend on which, and which module of the harness may use which."""

import re
import shutil
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Dependencies of each crate on others of ours, without those for tests only. The two sides of a comparison
# share names, shapes and weights, never arithmetic: `scalar` and `torch` depend on no other engine, and
# nothing but the harness knows all of them.
MODEL = {"spec", "checkpoint"}
CRATES = {
    "files": set(),
    "skip": set(),
    "spec": set(),
    "checkpoint": {"files", "spec"},
    "torch": MODEL,
    "scalar": MODEL,
    "lower": MODEL,
    "cpu": MODEL | {"lower"},
    "cuda": MODEL | {"files", "lower"},
    "record": {"files"},
    "reports": {"files", "record"},
    "video": {"files"},
    "compare": MODEL | {"files", "record"},
    # The exporter writes resized embeddings as constants, and the normalisation of frames.
    "onnx": MODEL | {"scalar", "video"},
}

# The modules of the harness, from the ground up. A module uses only those of floors below its own.
FLOORS = [
    {"announce"},
    {"failure"},
    {"command_line", "disk", "flags", "latest", "progress", "stop"},
    {"engines", "input", "lock", "models", "outcome", "outputs", "preprocessing"},
    {"publish"},
    {"machine"},
    {"eval"},
    {"train"},
    {"commands"},
    {"cli"},
    {"main"},
]


def section(manifest, name):
    """The lines of a section of a manifest; the standard library reads TOML only since Python 3.11."""
    found = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", manifest, re.M | re.S)
    return found[1] if found else ""


def crates():
    """The folder and the dependencies of every crate in the workspace, by the crate's name."""
    members = re.search(r"members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.S)
    found = {}
    for member in re.findall(r'"([^"]+)"', members[1]):
        manifest = (ROOT / member / "Cargo.toml").read_text()
        name = re.search(r'^name = "([^"]+)"', manifest, re.M)[1]
        needs = re.findall(r"^([\w-]+)", section(manifest, "dependencies"), re.M)
        found[name] = (Path(member).name, set(needs))
    return found


def used_modules(path):
    """The top-level modules of the crate that a file uses."""
    text = re.sub(r"//[^\n]*", "", path.read_text())
    found = set(re.findall(r"\bcrate::(\w+)", text))
    for group in re.findall(r"\bcrate::\{([^}]*)\}", text):
        found |= {item.strip().split("::")[0] for item in group.split(",") if item.strip()}
    return found


class Crates(unittest.TestCase):
    def test_a_crate_depends_only_on_what_it_may(self):
        ours = crates()
        for name, (_, needs) in ours.items():
            if name != "harness":
                self.assertIn(name, CRATES, "add the crate to the table in this file")
                self.assertLessEqual(needs & set(ours), CRATES[name], f"{name} may not depend on all of it")

    def test_a_package_has_the_name_of_its_folder(self):
        for name, (folder, _) in crates().items():
            self.assertEqual(folder, name)


class Harness(unittest.TestCase):
    SOURCE = ROOT / "experiments/harness/src"

    def test_no_module_uses_one_of_its_own_floor_or_above(self):
        floor = {module: at for at, modules in enumerate(FLOORS) for module in modules}
        for path in sorted(self.SOURCE.rglob("*.rs")):
            module = path.relative_to(self.SOURCE).parts[0].removesuffix(".rs")
            self.assertIn(module, floor, "add the module to the table in this file")
            for other in used_modules(path) - {module}:
                self.assertIn(other, floor, f"{path}: crate::{other}")
                self.assertLess(floor[other], floor[module], f"{path}: crate::{other}")

    def test_notes_are_silenced_by_quiet(self):
        # Only errors, and what Ctrl-C is answered with, are printed without `announce!`.
        for path in sorted(self.SOURCE.rglob("*.rs")):
            if path.relative_to(self.SOURCE).as_posix() not in ("announce.rs", "outcome.rs", "stop.rs"):
                self.assertNotIn("eprintln!", path.read_text(), f"{path}: use announce!")

    def test_no_command_uses_another(self):
        commands = self.SOURCE / "commands"
        for path in sorted(commands.rglob("*.rs")):
            if path.parent == commands:
                continue
            command = path.relative_to(commands).parts[0]
            text = path.read_text()
            for other in re.findall(r"\bcrate::commands::(\w+)", text):
                self.assertEqual(other, command, str(path))
            depth = len(path.relative_to(commands / command).parts)
            up = "super::" * (depth + 1 if path.name != "mod.rs" else depth)
            self.assertIsNone(re.search(rf"(?<!super::){up}\w", text), str(path))


# What the top level holds, besides hidden files.
FOLDERS = {"reference", "impls", "experiments", "reports", "scripts"}
FILES = {"Cargo.toml", "Cargo.lock", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "deny.toml", "rustfmt.toml"}


class TopLevel(unittest.TestCase):
    @unittest.skipUnless(shutil.which("git") and (ROOT / ".git").exists(), "this is not a clone")
    def test_it_holds_only_what_people_expect(self):
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found = {path.split("/")[0] for path in listed.splitlines() if not path.startswith(".")}
        self.assertEqual(found, FOLDERS | FILES)


class Documents(unittest.TestCase):
    def test_the_paths_in_the_documents_exist(self):
        for document in ["README.md", "CONTRIBUTING.md"]:
            text = (ROOT / document).read_text()
            places = set(re.findall(r"`((?:reference|impls|experiments|reports|scripts)/[\w./-]+)`", text))
            places |= set(re.findall(r"\]\((?!https?:)([^)#]+)", text))
            self.assertGreater(len(places), 10)
            missing = sorted(place for place in places if not (ROOT / place).exists() and "NAME" not in place)
            self.assertEqual(missing, [], document)


if __name__ == "__main__":
    unittest.main()
