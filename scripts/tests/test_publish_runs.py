"""Tests of scripts/publish_runs in a small repository whose harness only pretends."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]

HARNESS = r"""#!/usr/bin/env bash
echo "$@" >> calls.log
out=; verdict=${VERDICT-pass}
while (($#)); do
    case $1 in --out) out=$2 ;; --json) out=$(dirname "$2") ;; esac
    shift
done
[[ -z ${CODE-} ]] || exit "$CODE"
dirty=$([[ -z $(git status --porcelain) ]] && echo false || echo true)
printf '{"kind": "eval", "verdict": "%s", "run": {"git": {"revision": "%s", "dirty": %s}}}' \
    "$verdict" "$(git rev-parse HEAD)" "$dirty" > "$out/record.json"
mkdir -p "$out/frames"
"""


class PublishRuns(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve() / "house"
        scripts = self.root / "scripts"
        (scripts / "lib").mkdir(parents=True)
        for name in ("publish_runs", "lib/common.sh", "lib/published_runs.tsv"):
            shutil.copy(SCRIPTS / name, scripts / name)
        for name in ("harness", "bench"):
            (scripts / name).write_text(HARNESS)
            os.chmod(scripts / name, 0o755)
        (self.root / ".gitignore").write_text("/runs\n/calls.log\n")
        self.git("init", "--quiet")
        self.commit()

    def git(self, *arguments):
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", "-C", str(self.root), *who, *arguments], check=True, capture_output=True)

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "state")

    def run_script(self, *arguments, **environment):
        command = [str(self.root / "scripts/publish_runs"), *arguments]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run(command, capture_output=True, text=True, env={**clean, **environment}, cwd="/")

    def calls(self):
        path = self.root / "calls.log"
        return path.read_text().splitlines() if path.exists() else []

    def test_a_tree_with_changes_is_refused_before_anything_runs(self):
        (self.root / "new.txt").write_text("x")
        result = self.run_script()
        self.assertEqual(result.returncode, 2)
        self.assertIn("uncommitted changes", result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertEqual(self.calls(), [])

    def test_it_says_how_long_it_takes_runs_all_and_replaces_the_records(self):
        result = self.run_script("--list")
        self.assertEqual((result.returncode, self.calls()), (0, []), result.stderr)
        table = (SCRIPTS / "lib" / "published_runs.tsv").read_text(encoding="utf-8")
        listed = [line.split("\t")[0] for line in table.splitlines() if not line.startswith("#")]
        self.assertRegex(result.stderr, r"mini-retrained +about \d+ min\nin all about \d+ min")
        result = self.run_script()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(self.calls()), len(listed))
        self.assertIn("ablate mini --retrain 3", self.calls()[-1])
        records = sorted((self.root / "reports/runs").glob("*/record.json"))
        self.assertEqual([record.parent.name for record in records], sorted(listed))
        for record in records:
            self.assertFalse(json.loads(record.read_text())["run"]["git"]["dirty"])
        self.assertNotIn(str(self.root), "".join(self.calls()), "a path of this machine")

    def test_an_interrupted_run_goes_on_and_finished_ones_are_kept(self):
        self.assertEqual(self.run_script("mini-eval").returncode, 0)
        self.commit_records_away()
        stopped = self.run_script("mini-eval", "mini-train", CODE="75")
        self.assertEqual(stopped.returncode, 2)
        self.assertIn("mini-train was interrupted; run the same command again", stopped.stderr)
        self.assertIn("is done", stopped.stderr)
        self.assertEqual(len(self.calls()), 2)
        self.assertEqual(self.run_script("mini-eval", "mini-train").returncode, 0)
        self.assertEqual([call.split()[0] for call in self.calls()], ["eval", "train", "train"])

    def commit_records_away(self):
        """Removes the published records, so that the tree is clean at the same revision."""
        shutil.rmtree(self.root / "reports")

    def test_a_run_that_did_not_pass_is_not_published(self):
        result = self.run_script("mini-eval", VERDICT="incomplete")
        self.assertEqual(result.returncode, 2)
        self.assertIn("its verdict is 'incomplete'", result.stderr)
        self.assertFalse((self.root / "reports").exists())
        result = self.run_script("mini-eval", CODE="1")
        self.assertEqual(result.returncode, 2)

    def test_quick_takes_any_tree_and_leaves_the_records_alone(self):
        (self.root / "new.txt").write_text("x")
        with tempfile.TemporaryDirectory() as folder:
            result = self.run_script("--quick", folder)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertTrue((Path(folder) / "mini-eval/record.json").exists())
        self.assertFalse((self.root / "reports").exists())
        self.assertTrue(all("--limit" in call or "--null 11" in call for call in self.calls()), self.calls())

    def test_unknown_names_and_flags_are_refused(self):
        for argument in ("mini", "--all"):
            result = self.run_script(argument)
            self.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1), result.stderr)
            self.assertIn(f"'{argument}'", result.stderr)


if __name__ == "__main__":
    unittest.main()
