"""Marks the wheel as one for this platform, and refuses to build one without the binaries."""

import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BINARIES = ("harness", "harness-torch")


class Binaries(BuildHookInterface):
    def initialize(self, version, build_data):
        folder = Path(self.root) / "src" / "squeezetime_harness" / "bin"
        for name in BINARIES:
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} does not exist; build the wheel with scripts/wheel")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
