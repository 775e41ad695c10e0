"""Installs a tool from one wheel into .tools/NAME/, completely or not at all.

Uses only the standard library, and libtorch.py for its messages and its calls of pip.
"""

import os
import sys
import zipfile
from pathlib import Path

from libtorch import Failure, discard, download, python_with_pip, say


def provide(root, name, check_machine, take):
    """Downloads the wheel of requirements/NAME.txt; `take(wheel, folder)` extracts the needed files into the folder."""
    target, partial = root / ".tools" / name, root / ".tools" / f"{name}.partial.{os.getpid()}"
    if target.is_dir():
        return
    check_machine()
    discard(partial)
    content = partial / "content"
    content.mkdir(parents=True)
    try:
        requirements = root / "scripts" / "requirements" / f"{name}.txt"
        say(f"downloading {name} with pip (scripts/requirements/{requirements.name})")
        take(download(python_with_pip(partial), requirements, partial / "wheels")[0], content)
        content.rename(target)
    finally:
        discard(partial)


def main(name, instead, check_machine, take):
    """Runs a script that provides one tool and returns its exit code; `instead` tells the user what else to do."""
    try:
        provide(Path(sys.argv[1]), name, check_machine, take)
    except Failure as failure:
        say(str(failure))
        return 2
    except (OSError, zipfile.BadZipFile) as error:
        say(f"{name} could not be installed ({error}); {instead}.")
        return 2
    return 0
