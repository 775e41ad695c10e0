"""Runs a live PyTorch or Flax model for `harness diff --candidate python:FILE:FUNCTION`.

The messages of the harness: `load` makes the model, `state` saves its weights, `probe` runs it to see what it shows,
`forward` runs it for a comparison.
"""

import hashlib
import importlib.util
import inspect
import os
import socket
import sys
import threading
from pathlib import Path

from harness_channel import Channel, Failure, serve

# Arguments of the user's function that take the path of the weights.
WEIGHTS = ("weights", "checkpoint", "weights_path", "checkpoint_path", "ckpt", "path")

# The layouts in which models take clips, and the axes of the harness's [N, 3, T, H, W] in them. In a stacked clip
# [N, 3T, H, W] the channel is colour * T + frame.
LAYOUTS = {
    "ncthw": (0, 1, 2, 3, 4),
    "nthwc": (0, 2, 3, 4, 1),
    "ntchw": (0, 2, 1, 3, 4),
    "nchw": (0, 1, 2, 3),
    "nhwc": (0, 2, 3, 1),
}


def laid_out(clip, layout):
    axes = LAYOUTS[layout]
    n, colours, frames, height, width = clip.shape
    stacked = clip.reshape(n, colours * frames, height, width)
    return (clip if len(axes) == 5 else stacked).transpose(axes).copy()


class Live:
    """The model, and the answers to the harness's messages."""

    def __init__(self, channel, file, model=None):
        self.channel, self.file, self.model = channel, file, model
        self.given = model is not None  # by the Python package, in its own process
        self.layout = None

    def handle(self, head, arrays):
        try:
            return getattr(self, "on_" + head["kind"])(head, *arrays)
        except ModuleNotFoundError as error:
            raise Failure(
                f"{error} in {sys.executable}; install it there, or name another Python with --python PATH"
            ) from error

    def on_load(self, head):
        called = head["function"]
        if not self.given:
            import harness_dump

            function = self.imported(harness_dump, head)
            arguments, wants = arguments_of(function, head)
            if wants:
                return {"wants": "weights"}
            self.model = wrapped(function(**arguments), called)
            path = head["weights"]
            shown = ", ".join(f"{k}={'WEIGHTS' if v == path else short(v)}" for k, v in arguments.items())
            called = f"{called}({shown})"
        return {
            "framework": self.model.framework,
            "device": str(self.model.device),
            "precision": self.model.precision(),
            "called": called,
            "notes": list(dict.fromkeys(self.model.notes)),
        }

    def imported(self, dump, head):
        """The user's function. Its program finds the modules next to it, and not those of the harness."""
        own = str(Path(__file__).resolve().parent)
        sys.path[:] = [str(Path(self.file).resolve().parent)] + [p for p in sys.path if p != own]
        sys.argv = [self.file]
        try:
            return dump.load_factory(f"{self.file}:{head['function']}", wrap_missing=False)
        except dump.Failure as failure:
            # The name of the program stands before every message.
            said = str(failure).removeprefix(f"--model {self.file}:{head['function']}").lstrip(": ")
            raise Failure(said.rstrip(".")) from failure

    def on_state(self, head):
        import numpy as np

        with open(head["path"], "wb") as file:
            np.savez(file, **{official(name, head.get("names", {})): value for name, value in self.model.state().items()})
        return {}

    def on_capture(self, head, clip):
        """Writes a dump with the outputs of the modules that run once."""
        import numpy as np

        given = laid_out(clip, head["layout"] or fitting_layout(self.model, clip))
        outputs, output = outputs_of(self.model, given)
        with open(head["path"], "wb") as file:
            np.savez(file, **outputs, input=clip, logits=output)
        return {}

    def on_probe(self, head, clip):
        self.layout = head["layout"] or fitting_layout(self.model, clip)
        given = laid_out(clip, self.layout)
        first, output = self.survey(given)
        # Another clip in between shows what a model keeps from one clip to the next.
        self.model.forward(laid_out((1 - clip).astype(clip.dtype), self.layout))
        second, again = self.survey(given)
        differs = [name for name, seen in first.items() if second.get(name) != seen]
        plain = self.model.forward(given)
        modules = [
            {"name": name, "shape": seen[0]["shape"], "dtype": seen[0]["dtype"], "calls": len(seen)}
            for name, seen in first.items()
        ]
        return {
            "modules": modules,
            "shape": list(output.shape),
            "dtype": str(output.dtype).rpartition(".")[2],
            "layout": self.layout,
            "assumed": head["layout"] is None,
            "differs": differs[:1],
            "drift": drift(self.model.array(output), self.model.array(again)),
            "follows": any(seen[-1]["digest"] == self.digest(output) for seen in first.values()),
            "unobserved": self.digest(plain) == self.digest(output),
        }

    def survey(self, given):
        """What the modules give: for each name a list of one entry for every call, and the output."""
        seen = {}

        def visit(name, output):
            entry = {"shape": None, "dtype": None, "digest": None}
            if self.model.is_array(output):
                dtype = str(output.dtype).rpartition(".")[2]
                entry = {"shape": list(output.shape), "dtype": dtype, "digest": self.digest(output)}
            seen.setdefault(name, []).append(entry)

        output = checked(self.model, self.model.forward(given, visit))
        return seen, self.model.keep(output)

    def digest(self, output):
        return hashlib.blake2b(self.model.array(output).tobytes(), digest_size=16).hexdigest()

    def on_forward(self, head, clip):
        from harness_feeder import Feeder, Stopped

        def ask(at, value):
            self.channel.send({"kind": "value", "at": at}, [self.model.array(value)])
            answer, arrays = self.channel.receive() or ({"kind": "stop"}, [])
            if answer["kind"] == "stop":
                raise Stopped
            return self.model.to_own(arrays[0], value) if arrays else None

        feeder = Feeder(head["show"], ask, self.model.keep)
        given = laid_out(clip, self.layout)
        try:
            output = checked(self.model, feeder.run(lambda: self.model.forward(given, feeder.visit, feeder.skip)))
        except Stopped:
            return {"kind": "stopped"}
        return {"kind": "done"}, [self.model.array(output)]


def outputs_of(model, given):
    """The outputs of the modules that run once, in the order in which they run, and that of the model, as arrays."""
    import numpy as np

    seen = {}

    def visit(name, output):
        seen.setdefault(name, []).append(np.array(model.array(output)) if model.is_array(output) else None)

    output = np.array(model.array(checked(model, model.forward(given, visit))))
    return {name: calls[0] for name, calls in seen.items() if len(calls) == 1 and calls[0] is not None}, output


def official(name, modules):
    """The name of a tensor of the state dict, with the module in it named as the harness does."""
    collection, slash, rest = name.partition("/") if name.startswith(("params/", "batch_stats/")) else ("", "", name)
    for separator in ("/", "."):
        module, found, leaf = rest.rpartition(separator)
        if found and module in modules:
            ours = modules[module]
            # The embedding is a parameter of spatial_conv, and in Flax of the sequence glo_conv in it.
            if leaf == "pos_embed":
                ours = ours.partition(".glo_conv")[0] + (".glo_conv" if separator == "/" else "")
            return f"{collection}{slash}{ours}{separator}{leaf}"
    return name


def fitting_layout(model, clip):
    """The first layout, if the model takes it, or else the only other one that it takes."""

    def tried(layout):
        try:
            checked(model, model.forward(laid_out(clip, layout)))
        except Exception as error:
            return error
        return None

    first, *others = LAYOUTS
    failed = tried(first)
    if failed is None:
        return first
    fits = [layout for layout in others if tried(layout) is None]
    if len(fits) > 1:
        raise Failure(f"the model takes clips as {' and '.join(fits)}; say which one is right with --layout")
    if not fits:
        raise failed
    return fits[0]


def checked(model, output):
    if not model.is_array(output):
        raise Failure(
            f"the model returned a {type(output).__name__}, expected a tensor; "
            "let the function return a model that gives the logits"
        )
    return output


def drift(first, second):
    """By how much two outputs differ, relative to the first; a large number if that is not a number."""
    import numpy as np

    first, second = first.astype(np.float64), second.astype(np.float64)
    size, apart = np.linalg.norm(first), np.linalg.norm(second - first)
    return 0.0 if apart == 0 else float(np.nan_to_num(apart / size, nan=1e300, posinf=1e300))


def short(value):
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def arguments_of(function, head):
    """The arguments for the user's function, and whether it needs the path of weights that were not given.

    A parameter is given the flag of the model that has its name, such as depth; --kwargs overrides. The path of the
    weights goes to a parameter with one of the names WEIGHTS, or to the only one that has no default.
    """
    parameters = inspect.signature(function).parameters
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in head["given"].items()}
    arguments = {name: value for name, value in given.items() if name in parameters}
    arguments.update(head["kwargs"])
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in arguments
    ]
    path = next((name for name in WEIGHTS if name in parameters and name not in arguments), None)
    if path is None and len(needed) == 1:
        path = needed[0]
    lacking = [name for name in needed if name != path]
    if lacking:
        raise Failure(
            f"{head['function']} needs the argument `{lacking[0]}`, which the harness does not know; "
            f"give it with --kwargs '{{\"{lacking[0]}\": …}}', or a default"
        )
    if path is not None and head["weights"] is not None:
        arguments[path] = head["weights"]
    return arguments, path in needed and head["weights"] is None


def wrapped(made, function):
    """The model that the function has made, with what its framework needs."""
    if "torch" in sys.modules and isinstance(made, sys.modules["torch"].nn.Module):
        from harness_torch import TorchModel

        return TorchModel(made)
    if "flax" in sys.modules:
        from harness_flax import LinenModel, NnxModel, nn, nnx

        if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
            return LinenModel(*made)
        if isinstance(made, nn.Module):
            raise Failure(f"{function} returned a linen module without its variables; return (module, variables)")
        if nnx is not None and isinstance(made, nnx.Module):
            return NnxModel(made)
    raise Failure(
        f"{function} returned a {type(made).__name__}; return a torch.nn.Module, "
        "a pair of a linen module and its variables, or an NNX module"
    )


def relay(address):
    """Passes the messages on to the process that has the model, which the Python package has told the harness."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)

        def outwards():
            while data := os.read(0, 1 << 16):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=outwards, daemon=True).start()
        while data := connection.recv(1 << 16):
            while data:
                data = data[os.write(1, data) :]


def main():
    if address := os.environ.get("HARNESS_LIVE_SOCKET"):
        return relay(address)
    file = sys.argv[1]
    live = Live(Channel(), file)
    sys.meta_path.insert(0, OwnModules(Path(__file__).resolve().parent))
    return serve(live.handle, live.channel, [file])


class OwnModules:
    """Finds the harness's own modules, although their folder is not on sys.path for the user's program."""

    def __init__(self, folder):
        self.folder = folder

    def find_spec(self, name, path=None, target=None):
        file = self.folder / f"{name}.py"
        if name.startswith("harness_") and file.exists():
            return importlib.util.spec_from_file_location(name, file)
        return None


if __name__ == "__main__":
    main()
