# Functions that the scripts share. This file is sourced, not run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

# Prints a line on stderr.
say() { printf '%s\n' "$*" >&2; }

# Ends the script with one sentence. In this project, exit code 2 always means "usage or tool error".
die() {
    say "$(basename "$0"): $*"
    exit 2
}

# With --help as its first argument, a script prints the comment at its head. Those that set `own_help` before they read
# this file pass the flag on to a program that has a help of its own.
if [[ ${1-} == --help || ${1-} == -h ]] && [[ -z ${own_help-} ]]; then
    sed -n '2,${/^#/!q; s/^# \{0,1\}//; p}' "$0"
    exit 0
fi

# A relative CARGO_TARGET_DIR is relative to the caller's directory, but cargo must run in the repository, because it
# reads .cargo/config.toml (which sets LIBTORCH) from the current directory.
if [[ -n ${CARGO_TARGET_DIR-} && $CARGO_TARGET_DIR != /* ]]; then
    export CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR
fi

# Runs a command in the root of the repository.
in_repo() { (cd "$root" && "$@"); }

# Prints the Python of .tools/NAME, an environment with the packages of scripts/requirements/NAME.txt. Makes the
# environment if it does not exist or if the list of packages has changed.
provide_venv() {
    local venv=$root/.tools/$1 list=$root/scripts/requirements/$1.txt
    if [[ ! -x $venv/bin/python ]] || ! cmp -s "$list" "$venv/made-of.txt"; then
        python3 -m venv --clear "$venv" >&2 ||
            die "python3 -m venv does not work; install python3-venv and run this again."
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$list" >&2 ||
            die "the packages of scripts/requirements/$1.txt could not be installed; see pip's message above."
        cp "$list" "$venv/made-of.txt" || die "$venv cannot be written; free disk space and run this again."
    fi
    printf '%s\n' "$venv/bin/python"
}

# Prints the Python of .tools/NAME (default: oracle) with PyTorch for the CPU, without the CUDA wheels (3 GB). PyTorch
# is linked against their libraries, but without a GPU none of their functions is called, so empty libraries are enough.
provide_torch_python() {
    local python libraries library
    command -v "${CC:-cc}" >/dev/null || die "no C compiler (${CC:-cc}) was found; install gcc and run this again."
    python=$(PIP_NO_DEPS=1 provide_venv "${1:-oracle}") || exit 2
    libraries=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # Python resolves the functions of a library when they are called, not all of them when it is loaded.
    printf 'import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n' >"$libraries/lazy_cuda.pth"
    for library in libnvshmem_host.so.3 libcusparse.so.12 libcufft.so.12 libcufile.so.0 libcusparseLt.so.0 \
        libnccl.so.2 libcurand.so.10 libcublas.so.13 libcublasLt.so.13 libcudnn.so.9; do
        [[ -e $libraries/nvidia/cu13/lib/$library ]] ||
            "${CC:-cc}" -shared -x c -Wl,-soname,"$library" -o "$libraries/nvidia/cu13/lib/$library" /dev/null ||
            die "an empty $library could not be made in $libraries; see the compiler's message above."
    done
    printf '%s\n' "$python"
}
