#!/usr/bin/env python3
"""Writes the output of every module of your PyTorch or Flax model into an .npz file for `harness diff`.

    python scripts/dump_activations.py torch --model my_module:make_model --checkpoint FILE \\
        --input formula:0 --frames 16 --size 224 --out dump.npz
    scripts/harness diff --candidate npz:dump.npz --weights FILE --input formula:0 --frames 16 --size 224

`make_model` is your function, called without arguments or with those of --kwargs. It returns
  torch   a module in evaluation mode whose output is the logits;
  flax    a linen module, or a pair of the module and its variables.
The archive holds `input` [N, 3, T, H, W], `logits`, and the output of each module under its path: layer1.0.conv2 in
PyTorch, layer1.0/conv2 in Flax. A module that runs several times has no single output; it is left out with a message.

From Python: `save(path, torch_activations(module, clip))`, `save(path, flax_activations(module, variables, clip))`.
Needs only numpy and the framework.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import math
import pickle
import sys
import traceback
from pathlib import Path

try:
    import numpy as np
except ModuleNotFoundError:  # said by main; --help works without it
    np = None


class Failure(Exception):
    """An error whose message is one sentence: what went wrong and what to do next."""


@contextlib.contextmanager
def attempted(what, advice, but=Failure):
    """Turns an exception of the user's program, but for some, into a Failure that names its cause and its place."""
    try:
        yield
    except (Failure, but):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        cause = f"{type(error).__name__}: {lines[0].split(' (http')[0]}".rstrip(" .:")
        # The last line of the user's program, and not of the framework below it.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
        place = f" at {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
        raise Failure(f"{what} failed{place} ({cause}); {advice}.") from error


class Recorder:
    """Outputs by module path. A path that is recorded twice is ambiguous and is dropped."""

    def __init__(self):
        self.outputs, self.left_out = {}, {}

    def add(self, name, output):
        if name in self.left_out:
            return
        if name in self.outputs:
            del self.outputs[name]
            self.left_out[name] = "it runs more than once"
        elif output is None:
            self.left_out[name] = "its output is not a single array"
        else:
            self.outputs[name] = output

    def finish(self, logits):
        for name, reason in self.left_out.items():
            print(f"dump_activations: {name} is left out: {reason}", file=sys.stderr)
        return {"logits": logits, **self.outputs}


def torch_activations(module, clip):
    """Runs a torch.nn.Module on `clip`, a numpy array in the module's own layout, with a hook on every module.

    The hooks clone the outputs, since an in-place ReLU would otherwise overwrite the output of its BatchNorm.
    """
    import torch

    def as_array(output):
        return output.detach().clone().cpu().numpy() if isinstance(output, torch.Tensor) else None

    def hook(name):
        return lambda _module, _inputs, output: recorder.add(name, as_array(output))

    refuse_training(module)
    recorder = Recorder()
    handles = [child.register_forward_hook(hook(name)) for name, child in module.named_modules() if name]
    first = next(module.parameters())
    try:
        with torch.inference_mode():
            logits = module(torch.from_numpy(clip).to(first.device, first.dtype))
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, torch.Tensor):
        raise Failure(
            f"the model returned a {type(logits).__name__}, expected a tensor; "
            "let make_model return a module that gives the logits."
        )
    return recorder.finish(as_array(logits))


def refuse_training(module):
    """Fails if a normalisation would use the statistics of the clip instead of the running ones."""
    import torch

    norms = torch.nn.modules.batchnorm._BatchNorm
    batch = [
        name or "the model"
        for name, child in module.named_modules()
        if isinstance(child, norms) and (child.training or child.running_mean is None)
    ]
    if batch:
        raise Failure(
            f"the normalisation {batch[0]} is in training mode or has no running statistics, so it would use those of "
            f"the clip ({len(batch)} such normalisations in all); call model.eval(), and do not override train()."
        )


def flax_activations(module, variables, clip):
    """Applies a linen module and captures its intermediates. Their layout stays NHWC."""
    from flax.traverse_util import flatten_dict

    logits, state = module.apply(variables, clip, capture_intermediates=True, mutable=["intermediates"])
    if not hasattr(logits, "shape"):
        raise Failure(
            f"the model returned a {type(logits).__name__}, expected an array; "
            "let make_model return a module that gives the logits."
        )
    recorder = Recorder()
    for path, calls in flatten_dict(dict(state["intermediates"])).items():
        if len(path) > 1 and path[-1] == "__call__":
            for output in calls:
                recorder.add("/".join(path[:-1]), np.asarray(output) if hasattr(output, "shape") else None)
    return recorder.finish(np.asarray(logits))


def is_nnx(made):
    return any(kind.__module__.startswith("flax.nnx") for kind in type(made).__mro__)


def save(path, activations, clip=None, compress=False):
    """Writes the archive. float64 is kept; other formats become float32, which holds bfloat16 and float16 exactly."""
    arrays = dict(activations) if clip is None else {"input": clip, **activations}
    for name, array in arrays.items():
        arrays[name] = array if array.dtype == np.float64 else array.astype(np.float32)
    with open(path, "wb") as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)


def parse_size(text):
    parts = text.split("x")
    try:
        sizes = tuple(int(part) for part in parts)
    except ValueError:
        sizes = ()
    if len(sizes) not in (1, 2) or min(sizes) < 1:
        raise Failure(f"--size is '{text}'; expected one number or HxW, such as 224 or 57x65.")
    return sizes * 2 if len(sizes) == 1 else sizes


def read_input(args):
    """The clip [N, 3, T, H, W] from the formula, or from a .npy or .npz file."""
    shape = (args.batch_size, 3, args.frames, *parse_size(args.size))
    kind, _, seed = args.input.partition(":")
    if kind == "formula":
        if not seed.isdecimal():
            raise Failure(
                f"--input is '{args.input}'; expected formula:SEED with a whole number, such as formula:0."
            )
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        import formula  # from the folder of this file

        return formula.clip(shape, int(seed))
    try:
        loaded = np.load(args.input, allow_pickle=False)
        clip = loaded["input"] if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except (OSError, ValueError, KeyError) as error:
        raise Failure(
            f"--input {args.input} is neither a readable .npy nor an .npz with an array 'input' ({error}); "
            "correct the path or the file."
        ) from error
    if clip.shape != shape:
        raise Failure(
            f"--input {args.input} has shape {list(clip.shape)}, expected {list(shape)}; "
            "adjust --batch-size, --frames and --size."
        )
    return clip


def load_factory(text, wrap_missing=True):
    """The function that `text` names, as `package.module:function` or `path/to/file.py:function`.

    `wrap_missing` is false where the caller words the lack of an imported package itself.
    """
    source, _, name = text.rpartition(":")
    if not source:
        raise Failure(f"--model is '{text}'; expected MODULE:FUNCTION, such as my_module:make_model.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and not wrap_missing:
            raise
        raise Failure(
            f"--model {text} could not be imported ({error}); "
            "run this in the folder of the module, with its framework installed."
        ) from error
    if not callable(getattr(module, name, None)):
        raise Failure(f"--model {text}: {source} has no function '{name}'; name the function that makes the model.")
    return getattr(module, name)


def import_file(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses, which linen uses, look up their module
    spec.loader.exec_module(module)
    return module


def parse_kwargs(text):
    try:
        kwargs = json.loads(text)
    except json.JSONDecodeError as error:
        raise Failure(f"--kwargs is not JSON ({error}); give an object such as '{{\"depth\": 18}}'.") from error
    if not isinstance(kwargs, dict):
        raise Failure(
            f"--kwargs is a JSON {type(kwargs).__name__}, expected an object such as '{{\"depth\": 18}}'."
        )
    return kwargs


# Keys under which training programs store a state dict, and prefixes that frameworks add to its names.
WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "backbone.net.", "backbone.", "net.")
HEADS = (("cls_head.fc_cls.", "fc."), ("fc_cls.", "fc."))


def bare_name(name):
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    for head, bare in HEADS:
        name = bare + name[len(head) :] if name.startswith(head) else name
    return name


def load_torch_checkpoint(module, path):
    """Loads all entries, with the running statistics of BatchNorm, or fails: a default value would go unnoticed."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise Failure(f"--checkpoint {path} could not be read ({error.strerror}); correct the path.") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        # The message of torch recommends unsafe loading, so it is not repeated.
        raise Failure(
            f"--checkpoint {path} is damaged or holds more than plain tensors; save a state dict with torch.save."
        ) from error
    if not isinstance(state, dict):
        raise Failure(
            f"--checkpoint {path} holds a {type(state).__name__}, expected a state dict; save model.state_dict()."
        )
    for wrapper in WRAPPERS:
        state = state[wrapper] if isinstance(state.get(wrapper), dict) else state
    wanted = module.state_dict()
    if not wanted.keys() & state.keys():
        state = {bare_name(name): tensor for name, tensor in state.items()}
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - state.keys() - optional)
    unknown = sorted(state.keys() - wanted.keys())
    if missing or unknown:
        raise Failure(
            f"--checkpoint {path} does not fit the model: {len(missing)} entries are missing{first_of(missing)} and "
            f"{len(unknown)} are unknown{first_of(unknown)}; rename them, or load the checkpoint inside make_model."
        )
    try:
        module.load_state_dict(state, strict=False)  # the names were checked above, except the counters
    except RuntimeError as error:
        cause = str(error).splitlines()[1].strip(" .\t")
        raise Failure(
            f"the shapes in --checkpoint {path} are not those of the model ({cause}); adapt make_model."
        ) from error


def first_of(names):
    return f" (first {names[0]})" if names else ""


class ArraysOnly(pickle.Unpickler):
    """Reads dicts of numpy arrays, and refuses every other function that a pickle asks to call."""

    ALLOWED = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}

    def find_class(self, module, name):
        if module.split(".")[0] == "numpy" and name in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def load_flax_checkpoint(path):
    try:
        with open(path, "rb") as file:
            variables = ArraysOnly(file).load()
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError, IndexError) as error:
        raise Failure(
            f"--checkpoint {path} is not a pickle of plain dicts of numpy arrays ({error}); "
            "save params and batch_stats in that form."
        ) from error
    if not isinstance(variables, dict) or "params" not in variables:
        raise Failure(f"--checkpoint {path} has no entry 'params'; save {{'params': …, 'batch_stats': …}}.")
    return variables


def run_torch(args, made, clip):
    import torch

    if not isinstance(made, torch.nn.Module):
        raise Failure(
            f"make_model returned a {type(made).__name__}, expected a torch.nn.Module; return the model itself."
        )
    if args.checkpoint:
        load_torch_checkpoint(made, args.checkpoint)
    made = made.double() if args.precision == "f64" else made.float()
    with attempted("the model", layout_advice(args, clip)):
        return torch_activations(made.eval(), clip)


def layout_advice(args, clip):
    other = {"ncthw": "nthwc", "nthwc": "ncthw"}[args.layout]
    return (
        f"it was given a clip {list(clip.shape)} in the layout {args.layout}: if it takes another one, use "
        f"--layout {other}, and check --frames and --size"
    )


def run_flax(args, made, clip):
    if args.precision == "f64":
        raise Failure("--precision f64 is for torch only; Flax models decide their own precision.")
    module, variables = made if isinstance(made, tuple) else (made, None)
    if is_nnx(module):
        raise Failure(
            "make_model returned a Flax NNX module, and this script observes linen modules only; compare it live, with "
            "harness diff --candidate python:FILE.py:FUNCTION."
        )
    if args.checkpoint:
        variables = load_flax_checkpoint(args.checkpoint)
    if variables is None:
        raise Failure(
            "the model has no variables; give --checkpoint, or let make_model return (module, variables)."
        )
    from flax.errors import FlaxError, ModifyScopeVariableError

    try:
        with attempted("the model", layout_advice(args, clip), but=FlaxError):
            return flax_activations(module, variables, clip)
    except ModifyScopeVariableError as error:
        raise Failure(
            "the model changes its variables, as a BatchNorm in training mode does; make it with "
            "use_running_average=True (often train=False)."
        ) from error
    except FlaxError as error:
        cause = str(error).splitlines()[0].split(" (http")[0].rstrip(".")
        raise Failure(
            f"the variables do not fit the model: {cause}; adapt the checkpoint or make_model, or, if the clip has "
            f"another layout than {args.layout}, use --layout."
        ) from error


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="dump_activations.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("framework", choices=("torch", "flax"))
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODULE:FUNCTION",
        help="function that makes the model; MODULE may be a path to a .py file",
    )
    parser.add_argument("--kwargs", default="{}", metavar="JSON", help="keyword arguments for FUNCTION")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="torch: a state dict; flax: a pickle of params and batch_stats"
    )
    parser.add_argument(
        "--input",
        default="formula:0",
        metavar="formula:SEED|FILE",
        help="the clip: formula:SEED, a .npy, or an .npz with an array 'input'",
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="224", metavar="N|HxW")
    parser.add_argument("--layout", choices=("ncthw", "nthwc"), default="ncthw", help="layout of the model's clip")
    parser.add_argument("--precision", choices=("f32", "f64"), default="f32", help="f64 for torch only")
    parser.add_argument("--compress", action="store_true", help="write a smaller archive, which takes longer")
    parser.add_argument("--no-input", action="store_true", help="do not store the clip, if a formula made it")
    parser.add_argument("--out", required=True, metavar="FILE.npz")
    return parser.parse_args(argv)


def dump(args):
    clip = read_input(args)
    factory, kwargs = load_factory(args.model), parse_kwargs(args.kwargs)
    with attempted(f"--model {args.model}", "correct the function, or its arguments in --kwargs"):
        made = factory(**kwargs)
    given = clip if args.layout == "ncthw" else np.ascontiguousarray(clip.transpose(0, 2, 3, 4, 1))
    activations = (run_torch if args.framework == "torch" else run_flax)(args, made, given)
    try:
        save(args.out, activations, None if args.no_input else clip, args.compress)
    except OSError as error:
        raise Failure(f"--out {args.out} could not be written ({error}); choose another path.") from error
    count = len(activations) - 1
    numbers = sum(math.prod(array.shape) for array in activations.values())
    print(f"{args.out}: logits and {count} modules, {numbers} values")


def main(argv=None):
    args = parse_arguments(argv)
    if np is None:
        python = sys.executable or "this Python"
        said = f"{python} has no numpy; install numpy there, or use the Python of your model."
        print(f"dump_activations: {said}", file=sys.stderr)
        return 2
    try:
        dump(args)
    except Failure as failure:
        print(f"dump_activations: {failure}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
