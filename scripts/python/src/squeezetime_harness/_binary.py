"""Finds the binary that this environment can run.

The wheel has two: `harness-torch` is linked against libtorch 2.11, which the package torch holds, and `harness` is
not. libtorch is found at run time, so that the wheel need not contain it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "bin"
NEEDED = "2.11"


def torch_folder() -> tuple[Path | None, str]:
    """The folder of an installed torch that fits, or None and why there is none. Does not import torch."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return None, f"torch is not installed; pip install 'torch=={NEEDED}.*' adds the engine torch"
    folder = Path(found.origin).parent
    try:
        version = re.search(r"__version__ = '([^']*)'", (folder / "version.py").read_text())
    except OSError:
        version = None
    shown = version[1] if version else "of unknown version"
    if not shown.startswith(NEEDED + "."):
        return None, f"torch {shown} is installed; the engine torch needs {NEEDED} (pip install 'torch=={NEEDED}.*')"
    if not (folder / "lib" / "libtorch_cpu.so").exists():
        return None, f"{folder} has no lib/libtorch_cpu.so; install torch {NEEDED} again"
    return folder, ""


def command() -> tuple[str, dict[str, str]]:
    """The path of the binary, and the environment that it needs."""
    environment = dict(os.environ)
    # A live model is run by the Python that this package is installed in.
    environment.setdefault("HARNESS_PYTHON", sys.executable)
    torch, why = torch_folder()
    if torch is None:
        environment["HARNESS_WITHOUT_TORCH"] = why
        return str(FOLDER / "harness"), environment
    # The binary looks for libtorch two folders up. Where torch is installed elsewhere, the loader is told.
    if torch.parent != FOLDER.parent.parent:
        path = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = str(torch / "lib") + (f":{path}" if path else "")
    return str(FOLDER / "harness-torch"), environment


def main() -> None:
    """The program `harness`."""
    binary, environment = command()
    try:
        os.execve(binary, [binary, *sys.argv[1:]], environment)
    except OSError as error:
        sys.exit(f"harness: {binary} cannot be run ({error.strerror}); install squeezetime-harness again")
