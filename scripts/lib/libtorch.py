"""Downloads libtorch's wheels with pip and installs the parts that a build needs into .libtorch/.

    python3 libtorch.py ROOT cpu|cuda HASH

Run by scripts/setup; uses only the standard library. The folder is made as .libtorch.partial/ and then renamed, so an
interrupted run leaves the previous .libtorch/ unchanged.
"""

import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

TORCH_VERSION = "2.11.0"
LAYOUT = 1  # count up when other files are taken from the wheels: scripts/setup then makes the folder again
GIB = 1 << 30
# Bytes for the wheels, the unpacked files, and pip's temporary copy of the largest wheel.
DISK_NEEDED = {"cpu": 2 * GIB, "cuda": 7 * GIB}
REQUIREMENTS = {"cpu": ["libtorch.txt"], "cuda": ["libtorch.txt", "libtorch-cuda.txt"]}

# The wheels have different platform tags for x86_64 Linux, and pip accepts only the tags that it is given.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 25, 18, 17, 12, 5)]
PLATFORMS += [f"{name}_x86_64" for name in ("manylinux2014", "manylinux2010", "manylinux1")]
GLIBC_NEEDED = (2, 28)

LICENCE = re.compile(r"[^/]+\.dist-info/(licenses/.+|License\.txt|LICENSE.*)")
TORCH_COMMON = re.compile(r"torch/(include/.+|lib/(libc10|libtorch|libtorch_cpu)\.so|lib/libgomp\.so\.1)")
TORCH_CUDA = re.compile(r"torch/lib/lib(c10_cuda|caffe2_nvrtc|torch_cuda|torch_cuda_linalg|torch_nvshmem)\.so")
NVIDIA_CPU = re.compile(r"nvidia/cu13/lib/lib(cudart|cupti)\.so[.0-9]*")
NVIDIA_CUDA = re.compile(r"nvidia/.+\.so[.0-9]*")


class Failure(Exception):
    """One sentence: what went wrong and what to do next."""


def wanted(name, kind):
    """Whether a file of a wheel is needed; the libraries for Python, for example, are not."""
    patterns = [LICENCE, TORCH_COMMON, NVIDIA_CPU]
    if kind == "cuda":
        patterns += [TORCH_CUDA, NVIDIA_CUDA]
    return ".." not in name.split("/") and any(p.fullmatch(name) for p in patterns)


def check_machine(place, kind):
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise Failure(
            f"the pinned libtorch is for Linux on x86_64, and this is {system} on {machine}; "
            f"set LIBTORCH to a libtorch {TORCH_VERSION} for this machine."
        )
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC_NEEDED:
        raise Failure(
            f"the pinned libtorch needs glibc 2.28 or newer, and this system has {libc or 'another C library'} "
            f"{version}; set LIBTORCH to a libtorch {TORCH_VERSION} built for it."
        )
    free = shutil.disk_usage(place).free
    if free < DISK_NEEDED[kind]:
        raise Failure(
            f"libtorch needs {DISK_NEEDED[kind] / GIB:.0f} GiB on the disk of {place} while it is unpacked, and "
            f"{free / GIB:.1f} GiB are free; free disk space and run this again."
        )


def runs(command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def python_with_pip(partial):
    """This Python if it has pip, otherwise a temporary environment with pip."""
    if runs([sys.executable, "-m", "pip", "--version"]):
        return sys.executable
    venv = partial / "venv"
    if runs([sys.executable, "-m", "venv", str(venv)]):
        return str(venv / "bin" / "python3")
    raise Failure(
        f"{sys.executable} has neither pip nor a working venv, and one of them is needed to download libtorch; "
        "install python3-pip or python3-venv and run this again."
    )


def pip_command(python, requirements, folder):
    command = [python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += [
        "--disable-pip-version-check",
        "--no-input",
        "--python-version",
        "3.12",
        "--implementation",
        "cp",
    ]
    for tag in PLATFORMS:
        command += ["--platform", tag]
    if not sys.stderr.isatty():
        command += ["--quiet"]
    return command + ["--dest", str(folder), "--requirement", str(requirements)]


def download(python, requirements, folder):
    """Runs pip and returns the wheels. Progress goes to stderr; an error of pip becomes a Failure."""
    folder.mkdir(parents=True)
    result = subprocess.run(
        pip_command(python, requirements, folder), stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    if result.returncode == 0:
        return sorted(folder.glob("*.whl"))
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise Failure(
            f"the hash of a downloaded wheel is not the one that scripts/requirements/{requirements.name} pins, "
            "so it was discarded; see with 'pip config list' which index pip uses, and run this again."
        )
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
    cause = errors[-1][len("ERROR: ") :] if errors else f"exit code {result.returncode}"
    raise Failure(
        f"pip could not download the wheels of scripts/requirements/{requirements.name} ({cause.rstrip('.')}); "
        "check that pip reaches its package index and run this again."
    )


def unpack(wheel, folder, kind):
    """Extracts the needed files from a wheel, then deletes the wheel to limit the use of the disk."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if wanted(name, kind)]
            archive.extractall(folder, names)
    except (OSError, zipfile.BadZipFile) as error:
        raise Failure(
            f"{wheel.name} could not be unpacked ({error}); free disk space and run this again."
        ) from error
    wheel.unlink()


def build(root, kind, partial):
    """Makes the content of .libtorch/ below `partial` and returns its folder."""
    content = partial / "content"
    content.mkdir()
    python = python_with_pip(partial)
    for name in REQUIREMENTS[kind]:
        say(f"downloading the wheels of scripts/requirements/{name} with pip")
        wheels = download(python, root / "scripts" / "requirements" / name, partial / "wheels" / name)
        for wheel in wheels:
            unpack(wheel, content, kind)
    for needed in ("torch/lib/libtorch_cpu.so", "torch/include/torch/csrc/api/include/torch/torch.h"):
        if not (content / needed).is_file():
            raise Failure(
                f"the wheel of torch {TORCH_VERSION} does not contain {needed}; please report this bug of the set-up."
            )
    # tch checks that this file names the version that it binds.
    (content / "torch" / "build-version").write_text(TORCH_VERSION + "\n")
    return content


def install(content, target):
    """Replaces `target` by `content`. The target is missing only between the two renames."""
    old = target.with_name(target.name + ".old")
    discard(old)
    if os.path.lexists(target):
        target.rename(old)
    content.rename(target)
    discard(old)


def discard(path):
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def provide(root, kind, fingerprint):
    target, partial = root / ".libtorch", root / ".libtorch.partial"
    stamp = f"{kind} {fingerprint}\n"
    with open(root / ".libtorch.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / "stamp").is_file() and (target / "stamp").read_text() == stamp:
            return  # another run has made it while this one waited for the lock
        check_machine(root, kind)
        discard(partial)
        partial.mkdir()
        try:
            content = build(root, kind, partial)
            (content / "stamp").write_text(stamp)
            install(content, target)
        finally:
            discard(partial)
    say(f"libtorch {TORCH_VERSION} ({kind}) is in {target}")


def say(text):
    print(f"setup: {text}", file=sys.stderr)


def interrupt(*_):
    raise KeyboardInterrupt


def main(root, kind, fingerprint):
    signal.signal(signal.SIGTERM, interrupt)  # a terminated run cleans up like an interrupted one
    try:
        provide(Path(root), kind, fingerprint)
    except Failure as failure:
        say(str(failure))
        return 2
    except KeyboardInterrupt:
        say("interrupted; nothing was changed; run this again to start over.")
        return 2
    except OSError as error:
        say(f"libtorch could not be installed ({error}); correct the cause and run this again.")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
