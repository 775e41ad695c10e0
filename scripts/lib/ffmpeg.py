"""Fetches a static ffmpeg with pip and puts it into .tools/ffmpeg/ffmpeg.

    python3 ffmpeg.py ROOT

Run by scripts/setup where no ffmpeg is on PATH, with nothing but the standard library. What it says and how it
calls pip is libtorch.py's.
"""

import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import libtorch
from libtorch import Failure, discard, download, python_with_pip, say

BINARY = re.compile(r"imageio_ffmpeg/binaries/ffmpeg-linux-[^/]+")


def check_machine():
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        raise Failure(
            f"the pinned ffmpeg is for Linux on x86_64 and aarch64 and this is {system} on {machine}; "
            "install ffmpeg, or set FFMPEG to one."
        )
    if machine == "aarch64":
        libtorch.PLATFORMS[:] = ["manylinux2014_aarch64"]


def take(wheel, binary):
    """Takes the program out of the wheel; it is in place only if it runs."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if BINARY.fullmatch(name)]
        if len(names) != 1:
            raise Failure(f"{wheel.name} holds no ffmpeg; report this as a fault of the set-up.")
        with archive.open(names[0]) as source, open(binary, "wb") as target:
            shutil.copyfileobj(source, target)
    binary.chmod(0o755)
    answer = subprocess.run([str(binary), "-version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if not answer.stdout.startswith(b"ffmpeg version"):
        raise Failure("the fetched ffmpeg does not run here; install ffmpeg, or set FFMPEG to one.")


def provide(root):
    target, partial = root / ".tools" / "ffmpeg", root / ".tools" / f"ffmpeg.partial.{libtorch.os.getpid()}"
    if (target / "ffmpeg").is_file():
        return
    check_machine()
    discard(partial)
    partial.mkdir(parents=True)
    try:
        say("fetching ffmpeg with pip (scripts/requirements/ffmpeg.txt)")
        python = python_with_pip(partial)
        wheels = download(python, root / "scripts" / "requirements" / "ffmpeg.txt", partial / "wheels")
        take(wheels[0], partial / "ffmpeg")
        discard(partial / "wheels")
        discard(partial / "venv")
        discard(target)
        partial.rename(target)
    finally:
        discard(partial)


def main(root):
    try:
        provide(Path(root))
    except Failure as failure:
        say(str(failure))
        return 2
    except (OSError, zipfile.BadZipFile) as error:
        say(f"ffmpeg could not be put into place ({error}); install ffmpeg, or set FFMPEG to one.")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
