"""Fetches NVIDIA's run-time compiler with pip and puts it into .tools/nvrtc/.

    python3 nvrtc.py ROOT

Run by scripts/setup --nvrtc, with nothing but the standard library. What it says and how it calls pip is
libtorch.py's.
"""

import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path

from libtorch import Failure, discard, download, python_with_pip, say

LIBRARY = re.compile(r"nvidia/cu13/lib/(libnvrtc(-builtins)?\.so[.0-9]*)")


def take(wheel, folder):
    """Takes the compiler and its built-ins out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        found = [match for match in map(LIBRARY.fullmatch, archive.namelist()) if match]
        if not any(match[2] is None for match in found):
            raise Failure(f"{wheel.name} holds no libnvrtc; report this as a fault of the set-up.")
        for match in found:
            with archive.open(match[0]) as source, open(folder / match[1], "wb") as target:
                shutil.copyfileobj(source, target)


def provide(root):
    target, partial = root / ".tools" / "nvrtc", root / ".tools" / f"nvrtc.partial.{os.getpid()}"
    if target.is_dir():
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Failure("the pinned NVRTC is for Linux on x86_64; set HARNESS_NVRTC to a folder that has one.")
    discard(partial)
    partial.mkdir(parents=True)
    try:
        python = python_with_pip(partial)
        requirements = root / "scripts" / "requirements" / "nvrtc.txt"
        say(f"fetching the wheels of scripts/requirements/{requirements.name} with pip")
        (content := partial / "content").mkdir()
        take(download(python, requirements, partial / "wheels")[0], content)
        content.rename(target)
    finally:
        discard(partial)


def main(root):
    try:
        provide(Path(root))
    except Failure as failure:
        say(str(failure))
        return 2
    except (OSError, zipfile.BadZipFile) as error:
        say(f"NVRTC could not be put into place ({error}); set HARNESS_NVRTC to a folder that has it.")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
