"""The skipped tests of a run: the list at the end of `scripts/test`, and the rule of `.ci/run`.

    python3 skips.py show FILE CODE      prints the list; CODE is the exit code of the tests
    python3 skips.py check FILE          exit code 1 if this machine does not justify a skip

Each line of the file is a kind, a tab and a sentence, written by the crate scripts/skip or by run_tests.py. The file
scripts/skip/kinds.tsv says what justifies each kind. Uses only the standard library.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEVER = "-"  # in kinds.tsv: no machine justifies this kind

# The flags in /proc/cpuinfo for each instruction set of the engine cpu (impls/cpu/src/isa.rs). AMX is missing because
# a sandbox may forbid it on a processor that has it.
FLAGS = {
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512vl"},
    "avx512bf16": {"avx512f", "avx512bw", "avx512vl", "avx512_bf16"},
}


def kinds():
    """The rows of kinds.tsv by kind: what justifies a skip, and what the tests need to run."""
    text = (ROOT / "scripts" / "skip" / "kinds.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return {kind: (explanation, remedy) for kind, explanation, remedy in rows}


def append(path, kind, sentence):
    """Appends a line in a single write, so that the lines of concurrent tests do not mix."""
    line = f"{kind}\t{' '.join(sentence.split())}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read(path):
    """The lines as sorted pairs of kind and sentence, without duplicates."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted({tuple(line.partition("\t")[::2]) for line in lines if line})


def show(skips, failed):
    """The list as lines, grouped by kind with what the tests need to run."""
    if not skips:
        return ["nothing was skipped before the failure" if failed else "nothing was skipped"]
    known, lines, last = kinds(), ["skipped on this machine:"], None
    for kind, sentence in skips:
        if kind != last:
            _, remedy = known.get(kind, (None, "an entry for this kind in scripts/skip/kinds.tsv"))
            lines.append(f"  {kind}, needs {remedy}")
        lines.append(f"    {sentence}")
        last = kind
    return lines


def processor_flags(path="/proc/cpuinfo"):
    """The flags of the first processor; empty if they cannot be read."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def contradiction(kind, sentence, root=ROOT, flags=None):
    """A fact about this machine that contradicts the justification of a skip; None if there is none."""
    named = re.search(r"\.\./shared\S*", sentence) if kind == "shared" else None
    if named and (root / named[0]).exists():
        return f"{named[0]} exists"
    wanted = FLAGS.get(sentence.rsplit(" ", 1)[-1]) if kind == "isa" else None
    if wanted and wanted <= (processor_flags() if flags is None else flags):
        return "the processor has it"
    return None


def fault(kind, sentence, **machine):
    """Why this machine does not justify a skip; None if it does."""
    explanation, remedy = kinds().get(kind, (NEVER, "an entry in scripts/skip/kinds.tsv"))
    if explanation == NEVER:
        return f"no machine justifies skips of kind '{kind}'; the test needs {remedy}"
    against = contradiction(kind, sentence, **machine)
    return f"the kind '{kind}' means that {explanation}, but {against}" if against else None


def check(skips, **machine):
    """One line for each skip that this machine does not justify."""
    found = [(sentence, fault(kind, sentence, **machine)) for kind, sentence in skips]
    return [f"{sentence}: {why}" for sentence, why in found if why]


def main(arguments):
    try:
        if len(arguments) == 3 and arguments[0] == "show":
            print("\n".join(show(read(arguments[1]), arguments[2] != "0")))
            return 0
        if len(arguments) != 2 or arguments[0] != "check":
            print(__doc__.strip(), file=sys.stderr)
            return 2
        faults = check(read(arguments[1]))
    except OSError as error:
        print(f"skips: the list of skips cannot be read ({error}); run the tests again.", file=sys.stderr)
        return 2
    for line in faults:
        print(f"skips: {line}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
