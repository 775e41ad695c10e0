"""Live Flax models: linen modules, observed by an interceptor, and NNX modules, observed by their classes."""

import contextlib
import inspect

import flax
import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

try:
    from flax import nnx
except ImportError:  # older than 0.8.2
    nnx = None

PRECISIONS = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "float16": "f16"}

# Arguments with which modules are told that they do not train, and their value then.
INFERENCE = {"train": False, "training": False, "is_training": False, "deterministic": True, "use_running_average": True}


class FlaxModel:
    """What linen and NNX have in common."""

    framework = f"Flax {flax.__version__}, JAX {jax.__version__}"

    def __init__(self, call):
        self.notes = []
        self.device = jax.devices()[0].platform
        self.options = {}
        for name, parameter in inspect.signature(call).parameters.items():
            if name in INFERENCE and parameter.default is not INFERENCE[name]:
                self.options[name] = INFERENCE[name]
                self.notes.append(f"the model was called with {name}={INFERENCE[name]}, as for inference")

    def precision(self):
        leaves = [leaf for leaf in jax.tree_util.tree_leaves(self.variables()) if hasattr(leaf, "dtype")]
        return PRECISIONS.get(str(leaves[0].dtype), "f32") if leaves else "f32"

    @staticmethod
    def is_array(output):
        return hasattr(output, "shape") and hasattr(output, "dtype") and not isinstance(output, jax.core.Tracer)

    @staticmethod
    def array(value):
        value = np.asarray(value)
        return value if value.dtype == np.float64 else value.astype(np.float32)

    @staticmethod
    def keep(value):
        return value  # arrays of JAX do not change

    @staticmethod
    def to_own(array, like):
        return jax.numpy.asarray(array.reshape(like.shape), like.dtype)


class LinenModel(FlaxModel):
    def __init__(self, module, variables):
        super().__init__(type(module).__call__)
        self.module, self._variables = module, variables

    def variables(self):
        return self._variables

    def state(self):
        flat = flatten_dict(flax.core.unfreeze(self._variables), sep="/")
        return {name: self.array(value) for name, value in flat.items()}

    def forward(self, clip, visit=None, skip=None):
        def interceptor(call, args, kwargs, context):
            name = "/".join(context.module.path)
            if context.method_name != "__call__" or not name:
                return call(*args, **kwargs)
            known = skip(name) if skip is not None else None
            if known is not None:
                return known
            output = call(*args, **kwargs)
            replacement = visit(name, output) if visit is not None else None
            return output if replacement is None else replacement

        with nn.intercept_methods(interceptor):
            return self.module.apply(self._variables, clip, **self.options)


class NnxModel(FlaxModel):
    def __init__(self, module):
        super().__init__(type(module).__call__)
        self.module = module
        if hasattr(module, "eval"):
            module.eval()
            self.notes.append("model.eval() was called, as for inference")
        graph = nnx.iter_graph(module)
        nodes = ((path, node) for path, node in graph if isinstance(node, nnx.Module) and path)
        self.paths = {id(node): ".".join(map(str, path)) for path, node in nodes}
        self.classes = {type(node) for _, node in nnx.iter_graph(module) if callable(node)}

    def variables(self):
        return nnx.state(self.module)

    def state(self):
        flat = nnx.state(self.module).flat_state()
        flat = flat.items() if hasattr(flat, "items") else flat
        return {"/".join(map(str, path)): self.array(getattr(leaf, "value", leaf)) for path, leaf in flat}

    def forward(self, clip, visit=None, skip=None):
        with contextlib.ExitStack() as stack:
            for kind in self.classes:
                if issubclass(kind, nnx.Module) and "__call__" in vars(kind):
                    self._observe(stack, kind, visit, skip)
            return self.module(jax.numpy.asarray(clip), **self.options)

    def _observe(self, stack, kind, visit, skip):
        own = kind.__call__

        def call(module, *args, **kwargs):
            name = self.paths.get(id(module))
            known = skip(name) if name and skip is not None else None
            if known is not None:
                return known
            output = own(module, *args, **kwargs)
            replacement = visit(name, output) if name and visit is not None else None
            return output if replacement is None else replacement

        kind.__call__ = call
        stack.callback(setattr, kind, "__call__", own)
