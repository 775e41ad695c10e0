"""Tests of scripts/ci: the check with a harness that only pretends, and the files that name it."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

CI = Path(__file__).resolve().parents[1] / "ci"
RECORD = {
    "verdict": "diverged",
    "first_divergent": "layer1.0.bn1",
    "explanation": "First goes wrong at layer1.0: bn1.\nTwo lines.",
    "next": "harness diff --repro repro",
}


class Check(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_check(self, code, record=RECORD, *arguments, **environment):
        """Runs the check with a harness that prints a record and its arguments, and ends with a code."""
        program = self.folder / "harness"
        (self.folder / "text.json").write_text(json.dumps(record))
        program.write_text(f'#!/bin/sh\necho "$@" >&2\ncat {self.folder}/text.json\nexit {code}\n')
        os.chmod(program, 0o755)
        environment = {"HARNESS": str(program), "HARNESS_OUT": str(self.folder / "out"), **environment}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        return subprocess.run(
            [str(CI / "check"), *arguments], capture_output=True, text=True, env={**clean, **environment}
        )

    def test_the_exit_code_and_the_answer_are_those_of_the_harness(self):
        for code in (0, 1):
            result = self.run_check(code, RECORD, "--candidate", "npz:a b.npz")
            self.assertEqual(result.returncode, code, result.stderr)
            self.assertIn("diff --json - --html", result.stderr)
            self.assertIn("--candidate npz:a b.npz", result.stderr)
            self.assertIn("verdict: diverged", result.stderr)
            self.assertIn("next: harness diff --repro repro", result.stderr)
        self.assertEqual(json.loads((self.folder / "out/record.json").read_text()), RECORD)

    def test_an_error_of_the_harness_ends_the_check(self):
        result = self.run_check(2)
        self.assertEqual(result.returncode, 2)
        self.assertNotIn("verdict", result.stderr)

    def test_outputs_and_summary_on_github(self):
        output, summary = self.folder / "output", self.folder / "summary"
        self.run_check(1, GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=str(summary))
        lines = output.read_text().splitlines()
        self.assertEqual([line.split("=")[0] for line in lines], ["verdict", "first", "explanation", "next"])
        self.assertIn("first=layer1.0.bn1", lines)
        self.assertIn("### harness diff: diverged", summary.read_text())

    def test_nothing_is_left_to_do_after_a_pass(self):
        record = {"verdict": "pass", "first_divergent": None, "explanation": None, "next": None}
        result = self.run_check(0, record)
        self.assertNotIn("next", result.stderr.split("verdict: pass")[1])


class Files(unittest.TestCase):
    def test_the_outputs_of_the_action_are_those_of_the_check(self):
        action = (CI / "action.yml").read_text()
        named = set(re.findall(r"steps\.check\.outputs\.(\w+)", action))
        self.assertEqual(named, {"verdict", "first", "explanation", "next"})
        self.assertIn("using: composite", action)
        self.assertNotIn("${{ inputs.args }}", action.split("run: |")[1], "only the environment may hold it")

    def test_the_words_of_the_action_are_split_as_in_a_shell(self):
        line = re.search(r"readarray.*", (CI / "action.yml").read_text())[0]
        script = f"{line}\nprintf '%s\\n' \"${{words[@]}}\""
        result = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, "ARGS": "--candidate 'npz:a b.npz' --x $(id)"},
        )
        self.assertEqual(result.stdout.splitlines(), ["--candidate", "npz:a b.npz", "--x", "$(id)"])

    def test_the_page_for_agents_names_flags_and_fields_that_exist(self):
        page = (CI / "SKILL.md").read_text()
        self.assertRegex(page, r"\A---\nname: [\w-]+\ndescription: .+\n---\n")
        source = "".join(
            path.read_text() for path in (CI.parents[1] / "experiments/harness/src").rglob("*.rs")
        )
        for flag in re.findall(r"--(suggest-map|repro|json|html|weights)", page):
            self.assertIn(flag.replace("-", "_"), source)
        fields = (CI.parents[1] / "reports/record/src/diff.rs").read_text()
        for field in re.findall(r"^\| `(\w+)` \|", page, re.M):
            self.assertIn(f"pub {field}:", fields)


if __name__ == "__main__":
    unittest.main()
