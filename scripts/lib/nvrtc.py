"""Downloads NVIDIA's run-time compiler with pip and installs it into .tools/nvrtc/.

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
    """Extracts the compiler and its library of built-ins from the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        found = [match for match in map(LIBRARY.fullmatch, archive.namelist()) if match]
        if not any(match[2] is None for match in found):
            raise Failure(f"{wheel.name} does not contain libnvrtc; please report this bug of the set-up.")
        for match in found:
            with archive.open(match[0]) as source, open(folder / match[1], "wb") as target:
                shutil.copyfileobj(source, target)


def check_machine():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Failure("the pinned NVRTC is for Linux on x86_64; set HARNESS_NVRTC to a folder with another NVRTC.")


if __name__ == "__main__":
    sys.exit(tools.main("nvrtc", "set HARNESS_NVRTC to a folder that contains NVRTC", check_machine, take))
