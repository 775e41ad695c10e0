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
