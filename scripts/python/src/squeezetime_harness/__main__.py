"""`python -m squeezetime_harness` is the program `harness`."""

from ._binary import main

main()
