"""Compares ports of the video network SqueezeTime with a reference, layer by layer.

    from squeezetime_harness import compare
    print(compare(model, weights="k400.pth"))

- `compare` judges a live PyTorch or Flax model, and tells the first module that is wrong.
- `capture` keeps the outputs of all modules in a `Dump`, for another machine or another day.
- The pytest fixture `assert_port_matches` makes a test of a port.
- The program `harness` is on PATH.
"""

from ._capture import Dump, capture
from ._compare import HarnessError, Result, compare

__all__ = ["Dump", "HarnessError", "Result", "capture", "compare"]
