"""The Python side of the messages that `harness` exchanges with a program that it has started.

A message is one line of JSON and then the values of its tensors as little-endian float32 or float64. `Channel` takes
over stdin and stdout; what the program or a library prints goes to stderr from then on. Needs only numpy, and that only
for tensors.
"""

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

DTYPES = {"f32": "<f4", "f64": "<f8"}


class Failure(Exception):
    """An error whose message is one sentence: what went wrong and what to do next."""


class Channel:
    """The connection to the harness. Make it before any other library is imported that may print."""

    def __init__(self):
        self._in = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
        self._out = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # a program that reads stdin must not take the messages
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def receive(self):
        """The next message as its JSON object and a list of arrays; None at the end."""
        line = self._in.readline()
        if not line:
            return None
        head = json.loads(line)
        arrays = []
        for described in head.pop("tensors", []):
            import numpy as np

            dtype, shape = np.dtype(DTYPES[described["dtype"]]), described["shape"]
            array = np.empty(shape, dtype)
            if array.nbytes and self._in.readinto(memoryview(array.reshape(-1)).cast("B")) != array.nbytes:
                raise EOFError("the harness has ended within a message")
            arrays.append(array)
        return head, arrays

    def send(self, head, arrays=()):
        """Sends a message. Arrays that are not float64 are sent as float32, which holds smaller formats exactly."""
        if arrays:
            import numpy as np

            arrays = [np.ascontiguousarray(array, "<f8" if array.dtype == np.float64 else "<f4") for array in arrays]
        described = [{"dtype": f"f{8 * array.itemsize}", "shape": list(array.shape)} for array in arrays]
        self._out.write(json.dumps({**head, "tensors": described}).encode() + b"\n")
        for array in filter(lambda array: array.nbytes, arrays):
            self._out.write(memoryview(array.reshape(-1)).cast("B"))
        self._out.flush()


def _end_with(parent):
    """Ends this process when the harness has ended, even if it did not have the time to say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def in_words(error, files=()):
    """An exception on one line: its last line, and the innermost place in one of `files`, or else in any file."""
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    wanted = {str(Path(file).resolve()) for file in files}
    own = [frame for frame in frames if str(Path(frame.filename).resolve()) in wanted]
    place = (own or frames)[-1:]
    return " ".join(f"{said} ({Path(f.filename).name}, line {f.lineno}, in {f.name})" for f in place) or said


def serve(handle, channel, files=()):
    """Calls `handle(head, arrays)` for every message until the harness ends. An exception is sent as an error.

    `handle` returns a JSON object, or a pair of one and a list of arrays, or None if it has answered itself.
    """
    while (message := channel.receive()) is not None:
        try:
            answer = handle(*message)
        except Failure as failure:
            answer = {"error": str(failure)}
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            answer = {"error": in_words(error, files)}
        if answer is not None:
            channel.send(*(answer if isinstance(answer, tuple) else (answer,)))
