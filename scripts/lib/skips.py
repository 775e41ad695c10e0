"""The tests that a run left out: the list that `scripts/test` ends with, and the rule of `.ci/run`.

    python3 skips.py show FILE CODE      the list for people; CODE is what the tests ended with
    python3 skips.py check FILE          exit code 1 where a skip is not explained by this machine

A line of the file is a kind, a tab and a sentence. scripts/skip writes them, and run_tests.py. What explains a
kind stands in scripts/skip/kinds.tsv. Nothing but the standard library.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEVER = "-"

# What /proc/cpuinfo shows of an instruction set that the engine uses (impls/cpu/src/isa.rs). AMX is not here: a
# sandbox may refuse what the processor has.
FLAGS = {
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512vl"},
    "avx512bf16": {"avx512f", "avx512bw", "avx512vl", "avx512_bf16"},
}


def kinds():
    """By kind: what explains it, and what would make it run."""
    text = (ROOT / "scripts" / "skip" / "kinds.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return {kind: (explanation, remedy) for kind, explanation, remedy in rows}


def append(path, kind, sentence):
    """Adds a line, in one write, so that tests that run at the same time do not mix theirs."""
    line = f"{kind}\t{' '.join(sentence.split())}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read(path):
    """The lines as sorted pairs of kind and sentence, each once."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted({tuple(line.partition("\t")[::2]) for line in lines if line})


def show(skips, failed):
    """The list in lines: by kind, with what would make it run."""
    if not skips:
        return ["nothing was skipped before the failure" if failed else "nothing was skipped"]
    known, lines, last = kinds(), ["skipped on this machine:"], None
    for kind, sentence in skips:
        if kind != last:
            _, remedy = known.get(kind, (None, "a kind that scripts/skip/kinds.tsv does not list"))
            lines.append(f"  {kind}, which would need: {remedy}")
        lines.append(f"    {sentence}")
        last = kind
    return lines


def processor_flags(path="/proc/cpuinfo"):
    """The flags of the first processor; nothing where they cannot be read."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def contradiction(kind, sentence, root=ROOT, flags=None):
    """What on this machine speaks against the explanation of a kind; None where nothing does."""
    named = re.search(r"\.\./shared\S*", sentence) if kind == "shared" else None
    if named and (root / named[0]).exists():
        return f"{named[0]} is there"
    wanted = FLAGS.get(sentence.rsplit(" ", 1)[-1]) if kind == "isa" else None
    if wanted and wanted <= (processor_flags() if flags is None else flags):
        return "the processor has it"
    return None


def fault(kind, sentence, **machine):
    """Why a skip is none that this machine explains; None where it is."""
    explanation, remedy = kinds().get(kind, (NEVER, "a line in scripts/skip/kinds.tsv"))
    if explanation == NEVER:
        return f"no machine explains the kind '{kind}'; it needs {remedy}"
    against = contradiction(kind, sentence, **machine)
    return f"'{kind}' means that {explanation}, but {against}" if against else None


def check(skips, **machine):
    """The faults in lines, each with its sentence."""
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
