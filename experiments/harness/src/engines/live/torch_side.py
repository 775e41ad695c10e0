"""A live PyTorch module: its outputs are observed and replaced by forward hooks."""

import contextlib

import numpy as np
import torch

PRECISIONS = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16"}


class TorchModel:
    framework = f"PyTorch {torch.__version__}"

    def __init__(self, module):
        self.module = module
        self.notes = []
        self.mutating = set()  # names of modules that were seen to change what they are given
        tensors = [*module.parameters(), *module.buffers()]
        floats = [tensor for tensor in tensors if tensor.is_floating_point()]
        first = floats[0] if floats else torch.zeros(1)
        self.device, self.dtype = first.device, first.dtype
        self.names = [(name, child) for name, child in module.named_modules() if name]
        self._evaluate()

    def _evaluate(self):
        training = [name or "the model" for name, child in self.module.named_modules() if child.training]
        if training:
            self.module.eval()
            self.notes.append(
                f"training mode in {len(training)} of the modules, first in {training[0]}: model.eval() was called, "
                "as for inference"
            )
        norms = torch.nn.modules.batchnorm._BatchNorm
        batch = [n for n, c in self.names if isinstance(c, norms) and (c.training or c.running_mean is None)]
        if batch:
            self.notes.append(
                f"{batch[0]} normalises with the statistics of the batch even in evaluation mode, "
                f"and so do {len(batch) - 1} others"
            )

    def precision(self):
        if self.device.type == "cuda" and self.dtype == torch.float32 and torch.backends.cudnn.allow_tf32:
            self.notes.append(
                "the model runs on a GPU with TF32 convolutions, so it is judged in tf32; "
                "set torch.backends.cudnn.allow_tf32 = False for float32"
            )
            return "tf32"
        return PRECISIONS.get(self.dtype, "f32")

    def state(self):
        """The state dict as arrays."""
        named = self.module.state_dict()
        return {name: self.array(tensor) for name, tensor in named.items() if isinstance(tensor, torch.Tensor)}

    @staticmethod
    def is_array(output):
        return isinstance(output, torch.Tensor)

    @staticmethod
    def array(tensor):
        """A tensor as a numpy array; half formats become float32, which holds them exactly."""
        tensor = tensor.detach()
        if tensor.dtype in (torch.bfloat16, torch.float16):
            tensor = tensor.float()
        return tensor.cpu().numpy()

    @staticmethod
    def keep(tensor):
        return tensor.detach().clone()

    def to_own(self, array, like):
        """An array of the harness as a tensor with the shape, type and device of `like`."""
        return torch.from_numpy(np.ascontiguousarray(array)).reshape(like.shape).to(like.device, like.dtype)

    def forward(self, clip, visit=None, skip=None):
        """Runs the model on a numpy clip. `visit(name, output)` and `skip(name)` return a tensor or None."""
        given = torch.from_numpy(np.ascontiguousarray(clip)).to(self.device, self.dtype)
        with contextlib.ExitStack() as stack, torch.no_grad():
            for name, child in self.names:
                if visit is not None:
                    stack.callback(child.register_forward_hook(_hook(name, visit)).remove)
                if skip is not None:
                    self._skip(stack, name, child, skip)
            return self.module(given)

    def _skip(self, stack, name, module, skip):
        """Lets a module return its known output without computing it, unless it changes its inputs in place."""
        if isinstance(module, torch.jit.ScriptModule) or "forward" in vars(module):
            return
        own = module.forward

        def forward(*arguments, **named):
            known = None if name in self.mutating else skip(name)
            if known is not None:
                return known.clone()
            tensors = [value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor)]
            before = [version_of(tensor) for tensor in tensors]
            output = own(*arguments, **named)
            if before != [version_of(tensor) for tensor in tensors]:
                self.mutating.add(name)
            return output

        module.forward = forward
        stack.callback(vars(module).pop, "forward", None)


def version_of(tensor):
    """Counts changes in place. Tensors of inference mode do not count, so each of them is taken for changed."""
    return object() if tensor.is_inference() else tensor._version


# A compiled model must not trace the hooks. PyTorch before 2.1 has no such mark.
untraced = getattr(getattr(torch, "compiler", None), "disable", lambda function: function)


def _hook(name, visit):
    @untraced
    def hook(module, _inputs, output):
        replacement = visit(name, output)
        if replacement is not None and getattr(module, "inplace", False):
            # The program may go on with the tensor that the module has changed, not with the one that it returns.
            output.copy_(replacement)
            return output
        return None if replacement is None else replacement.clone()

    return hook
