"""Runs `harness diff` on a live model of this process.

The binary starts a Python for a live model. Here that Python only passes messages on, through a socket, to this
process, which has the model. So the model is observed and fed exactly as `--candidate python:FILE:FUNCTION` would.
"""

from __future__ import annotations

import contextlib
import html
import json
import selectors
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._binary import command
from ._capture import Dump, live, restoring

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class HarnessError(RuntimeError):
    """The comparison could not be made; the message says why and what to do next."""


@dataclass(frozen=True)
class Result:
    """The result of a comparison. It prints as a table; in a notebook it shows the report."""

    record: Mapping[str, Any] = field(repr=False)
    """The record, as `harness diff --json` writes it."""
    table: str = field(repr=False)
    """What `harness diff` prints."""
    report: str = field(repr=False)
    """The report as one HTML page."""
    verdict: str
    """`pass`, `diverged` or `incomplete`."""

    @property
    def passed(self) -> bool:
        return self.verdict == "pass"

    @property
    def first_divergent(self) -> str | None:
        """The first module that is wrong."""
        name: str | None = self.record["first_divergent"]
        return name

    @property
    def explanation(self) -> str | None:
        """The known mistake that explains the first divergence."""
        return (self.record.get("culprit") or {}).get("explanation")

    @property
    def layers(self) -> list[Mapping[str, Any]]:
        """What was measured at every module, in the order of execution."""
        layers: list[Mapping[str, Any]] = self.record["layers"]
        return layers

    @property
    def remarks(self) -> list[str]:
        """What a reader must know, such as the weights and how the model was called."""
        remarks: list[str] = self.record["remarks"]
        return remarks

    def __str__(self) -> str:
        return self.table

    def _repr_html_(self) -> str:
        page = html.escape(self.report, quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40em;border:0" title="{self.verdict}"></iframe>'


def compare(
    model: Any,
    weights: str | Path | None = None,
    *,
    clip: NDArray[np.floating[Any]] | str | Path | None = None,
    depth: int | None = None,
    width: float | None = None,
    frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    classes: int | None = None,
    pos_dim: tuple[int, int, int, int] | None = None,
    layout: str | None = None,
    precision: str | None = None,
    layer: str | None = None,
    reference: str | None = None,
    edge: bool = True,
    patience: float | None = None,
) -> Result:
    """Compares a port with the reference, layer by layer.

    `model` is a torch.nn.Module, a pair of a linen module and its variables, an NNX module, a `Dump`, or a string
    as --candidate takes it. `weights` is a checkpoint or `formula:SEED`; without it the reference computes with the
    model's own weights, so that a mistake in loading a checkpoint does not show. `clip` is an array [N, 3, T, H, W],
    or what --input takes. The other arguments are the flags of `harness diff`; frames and size default to the clip's.

    Raises HarnessError if the comparison cannot be made. A port that is wrong is not an error: see `Result.passed`.
    """
    with tempfile.TemporaryDirectory(prefix="harness-") as name, restoring(model):
        folder = Path(name)
        session = None if isinstance(model, (str, Dump)) else _Session(model)
        shape = getattr(clip, "shape", None) or (model["input"].shape if isinstance(model, Dump) else None)
        if shape is not None and len(shape) == 5:
            frames, size = frames or shape[2], size or (shape[3], shape[4])
        if size is not None:
            size = "x".join(map(str, size)) if isinstance(size, tuple) else size  # type: ignore[assignment]
        flags: dict[str, Any] = {
            "candidate": _candidate(model, folder),
            "weights": _weights(weights, session, folder),
            "input": _input(clip, folder),
            "depth": depth,
            "width": width,
            "frames": frames,
            "size": size,
            "classes": classes,
            "pos-dim": None if pos_dim is None else ",".join(map(str, pos_dim)),
            "batch-size": shape[0] if shape is not None and len(shape) == 5 else None,
            "layout": layout,
            "precision": precision,
            "layer": layer,
            "reference": reference,
            "patience": None if patience is None else int(patience),
            "json": folder / "record.json",
            "html": folder / "report.html",
        }
        arguments = [f"--{key}={value}" for key, value in flags.items() if value is not None]
        code, out, error = _run([*arguments, *([] if edge else ["--no-edge"])], session, folder)
        if code not in (0, 1):
            raise HarnessError(error.strip().splitlines()[-1].removeprefix("harness: ") if error.strip() else out)
        record = json.loads((folder / "record.json").read_text())
        return Result(record, out.rstrip(), (folder / "report.html").read_text(), record["verdict"])


class _Session:
    """The model of this process, which answers the messages of the harness."""

    def __init__(self, model: Any) -> None:
        program = live("harness_live")
        try:
            self.wrapped = program.wrapped(model, "compare")
        except program.Failure as failure:
            raise HarnessError(str(failure)) from None

    def serve(self, server: socket.socket, running: Callable[[], bool]) -> None:
        """Answers until the harness ends. It may have several connections, and speaks on one at a time."""
        channel, program = live("harness_channel"), live("harness_live")
        with selectors.DefaultSelector() as ready, contextlib.ExitStack() as stack:
            ready.register(server, selectors.EVENT_READ)
            while running():
                for key, _ in ready.select(timeout=0.1):
                    if key.data is None:
                        connection = stack.enter_context(server.accept()[0])
                        reader = stack.enter_context(connection.makefile("rb"))
                        messages = channel.Channel(reader, stack.enter_context(connection.makefile("wb")))
                        answers = program.Live(messages, "", self.wrapped)
                        ready.register(connection, selectors.EVENT_READ, (answers, messages))
                    else:
                        answers, messages = key.data
                        if not channel.serve_one(answers.handle, messages):
                            ready.unregister(key.fileobj)


def _candidate(model: Any, folder: Path) -> str:
    if isinstance(model, Dump):
        return f"npz:{model.save(folder / 'dump.npz')}"
    if isinstance(model, str):
        return model
    return f"python:this-process:{type(model[0] if isinstance(model, tuple) else model).__name__}"


def _weights(weights: str | Path | None, session: _Session | None, folder: Path) -> str | None:
    if weights is not None or session is None:
        return None if weights is None else str(weights)
    import numpy as np

    path = folder / "own-weights.npz"
    np.savez(path, **session.wrapped.state())
    return str(path)


def _input(clip: Any, folder: Path) -> str | None:
    if clip is None or isinstance(clip, (str, Path)):
        return None if clip is None else str(clip)
    import numpy as np

    path = folder / "clip.npz"
    np.savez(path, input=np.asarray(clip))
    return str(path)


def _run(arguments: list[str], session: _Session | None, folder: Path) -> tuple[int, str, str]:
    """Runs `harness diff`, and serves the model to it until it ends."""
    binary, environment = command()
    environment["NO_COLOR"] = "1"
    address = folder / "socket"
    with socket.socket(socket.AF_UNIX) as server, open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
        if session is not None:
            server.bind(str(address))
            server.listen()
            environment["HARNESS_LIVE_SOCKET"] = str(address)
        process = subprocess.Popen([binary, "diff", *arguments], stdout=out, stderr=err, env=environment)
        try:
            if session is not None:
                session.serve(server, lambda: process.poll() is None)
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    return code, (folder / "out").read_text(errors="replace"), (folder / "err").read_text(errors="replace")
