"""Downloads a static ffmpeg with pip and installs it as .tools/ffmpeg/ffmpeg.

    python3 ffmpeg.py ROOT

Run by scripts/setup if no ffmpeg of version 5.1 or later is on PATH.
"""

import platform
import re
import shutil
import subprocess
import sys
import zipfile

import libtorch
import tools
from libtorch import Failure

BINARY = re.compile(r"imageio_ffmpeg/binaries/ffmpeg-linux-[^/]+")


def check_machine():
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        raise Failure(
            f"the pinned ffmpeg is for Linux on x86_64 and aarch64, and this is {system} on {machine}; "
            "install ffmpeg, or set FFMPEG to its path."
        )
    if machine == "aarch64":
        libtorch.PLATFORMS[:] = ["manylinux2014_aarch64"]


def take(wheel, folder):
    """Extracts the program from the wheel and checks that it runs."""
    binary = folder / "ffmpeg"
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if BINARY.fullmatch(name)]
        if len(names) != 1:
            raise Failure(f"{wheel.name} does not contain ffmpeg; please report this bug of the set-up.")
        with archive.open(names[0]) as source, open(binary, "wb") as target:
            shutil.copyfileobj(source, target)
    binary.chmod(0o755)
    answer = subprocess.run([str(binary), "-version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if not answer.stdout.startswith(b"ffmpeg version"):
        raise Failure("the downloaded ffmpeg does not run on this machine; install ffmpeg, or set FFMPEG to its path.")


if __name__ == "__main__":
    sys.exit(tools.main("ffmpeg", "install ffmpeg, or set FFMPEG to its path", check_machine, take))
