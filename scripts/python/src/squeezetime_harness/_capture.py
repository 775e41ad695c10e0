"""Keeps the outputs of a model's modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIVE = Path(__file__).resolve().parent / "_live"


def live(name: str) -> ModuleType:
    """A module that the binary carries, too; they import each other by their short names."""
    if str(LIVE) not in sys.path:
        sys.path.append(str(LIVE))
    return importlib.import_module(name)


class Dump(Mapping[str, "NDArray[np.floating[Any]]"]):
    """The outputs of modules by their names, with `logits` and `input`, the clip [N, 3, T, H, W]."""

    def __init__(self, arrays: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, name: str) -> NDArray[np.floating[Any]]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"<Dump of {len(self)} arrays, input {list(self['input'].shape)}>"

    def save(self, path: str | Path) -> Path:
        """Writes the npz file that `harness diff --candidate npz:FILE` takes."""
        path = Path(path)
        live("harness_dump").save(path, self._arrays)
        return path


def capture(model: Any, clip: NDArray[np.floating[Any]] | None = None, *, layout: str | None = None) -> Dump:
    """Runs a model and keeps the outputs of its modules.

    `model` is a torch.nn.Module, a pair of a linen module and its variables, or an NNX module. `clip` is
    [N, 3, T, H, W]; without one it is formula:0 with 16 frames of 224 x 224. `layout` is the layout that the model
    takes: ncthw, nthwc, ntchw, nchw or nhwc. A module that runs several times is left out.
    """
    import numpy as np

    program = live("harness_live")
    clip = live("harness_formula").clip((1, 3, 16, 224, 224)) if clip is None else np.asarray(clip)
    with restoring(model):
        wrapped = program.wrapped(model, "capture")
        given = program.laid_out(clip, layout or program.fitting_layout(wrapped, clip))
        outputs, logits = program.outputs_of(wrapped, given)
    return Dump({"input": clip, "logits": logits, **outputs})


class restoring:
    """Puts those modules of a PyTorch model back into training mode that were in it."""

    def __init__(self, model: Any) -> None:
        modules = model.modules() if hasattr(model, "modules") and hasattr(model, "training") else []
        self._training = [module for module in modules if module.training]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for module in self._training:
            module.training = True
