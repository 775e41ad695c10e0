"""Tests of the Python side of live candidates that need no framework."""

import importlib.util
import unittest
from pathlib import Path

LIVE = Path(__file__).resolve().parents[2] / "experiments/harness/src/engines/live"


def load(name):
    spec = importlib.util.spec_from_file_location(name, LIVE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


feeder = load("feeder")

# A network with a shortcut around b and c. Each module adds up what it reads.
READS = {"a": ["clip"], "b": ["a"], "c": ["b"], "s.0": ["a"], "s.1": ["s.0"], "block": ["c", "s.1"], "d": ["block"]}
ORDERS = [
    ["a", "b", "c", "s.0", "s.1", "block", "d"],
    ["a", "s.0", "s.1", "b", "c", "block", "d"],
    ["a", "b", "s.0", "c", "s.1", "block", "d"],
]


def shown(program, feeds):
    """What the harness is shown by a program with this order, and how many runs that took."""
    names = list(READS)
    seen, runs = [], []

    def ask(at, value):
        seen.append((names[at], value))
        return 100 + at if feeds(names[at]) else None

    session = feeder.Feeder(names, ask, lambda value: value)

    def forward():
        runs.append(0)
        values = {"clip": 1}
        for name in program:
            known = session.skip(name)
            value = sum(values[read] for read in READS[name]) * 2 if known is None else known
            fed = session.visit(name, value)
            values[name] = value if fed is None else fed
        return values["d"]

    session.run(forward)
    return seen, len(runs)


class Feeding(unittest.TestCase):
    def test_values_do_not_depend_on_the_order_of_the_program(self):
        for feeds in (lambda name: True, lambda name: False, lambda name: name != "b", lambda name: name == "s.0"):
            expected, runs = shown(ORDERS[0], feeds)
            self.assertEqual([name for name, _ in expected], list(READS))
            self.assertEqual(runs, 1)
            for order in ORDERS[1:]:
                self.assertEqual(shown(order, feeds)[0], expected)

    def test_one_run_is_enough_if_nothing_is_fed(self):
        self.assertEqual([shown(order, lambda name: False)[1] for order in ORDERS], [1, 1, 1])

    def test_a_module_that_does_not_run_is_passed_over(self):
        seen = []
        session = feeder.Feeder(["a", "b", "c"], lambda at, value: seen.append(at), lambda value: value)
        session.run(lambda: [session.visit(name, 0) for name in ("a", "c")])
        self.assertEqual(seen, [0, 2])


if __name__ == "__main__":
    unittest.main()
