# Shared by the scripts: where the repository is, and how they speak. Sourced, never run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

say() { printf '%s\n' "$*" >&2; }

# Ends the script in one sentence. 2 is "usage or tool error" in the whole project.
die() {
    say "$(basename "$0"): $*"
    exit 2
}

# A relative CARGO_TARGET_DIR means the caller's directory, but cargo must run in the repository,
# because it reads .cargo/config.toml (LIBTORCH) from where it stands.
if [[ -n ${CARGO_TARGET_DIR-} && $CARGO_TARGET_DIR != /* ]]; then
    export CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR
fi

in_repo() { (cd "$root" && "$@"); }

# Makes .tools/NAME a Python environment of scripts/requirements/NAME.txt, unless it is one, and prints its Python.
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
