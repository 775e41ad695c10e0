"""Fetches NVIDIA's run-time compiler with pip and puts it into .tools/nvrtc/.

    python3 nvrtc.py ROOT

Run by scripts/setup --nvrtc.
"""

import platform
import re
import shutil
import sys
import zipfile

import tools
from libtorch import Failure

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


def check_machine():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Failure("the pinned NVRTC is for Linux on x86_64; set HARNESS_NVRTC to a folder that has one.")


if __name__ == "__main__":
    sys.exit(tools.main("nvrtc", "set HARNESS_NVRTC to a folder that has it", check_machine, take))
