"""Peers that run our ports in Python, which read the weights."""

import json
import os
import sys

from .common import MEAN, STD, Refused, Runtime, frames_of


def safetensors(path):
    """The arrays of a safetensors file by name; all must be float32."""
    import numpy

    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        arrays[name] = numpy.frombuffer(data[first:last], dtype="<f4").reshape(entry["shape"]).copy()
    return arrays


def port(name):
    """The module of scripts/examples with this name."""
    scripts = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, os.path.join(scripts, "examples"))
    return __import__(name)


class FlaxPort(Runtime):
    """scripts/examples/flax_port.py, for a runtime that compiles it with its weights as constants."""

    def __init__(self):
        import flax  # noqa: F401  (the port needs it)
        import jax

        self.jax, self.version = jax, jax.__version__

    def model(self, args):
        flax_port, config, weights = port("flax_port"), json.loads(args.config), safetensors(args.weights)

        def read(name, shape):
            value = weights.get(name)
            if value is None or value.shape != tuple(shape):
                raise Refused(f"the weights do not fit the Flax port: {name} should have the shape {tuple(shape)}")
            return value

        sizes = [config[key] for key in ("depth", "width", "frames", "classes")]
        module = flax_port.SqueezeTime(*sizes, tuple(config["pos_dim"]))
        return module, flax_port.fill(module, self.clip.shape[-2:], read)

    def profile(self, n):
        raise Refused("a compiled network is not profiled")


class Xla(FlaxPort):
    """XLA, the compiler of JAX.

    Its conversion of the float32 clip [N, 3, T, H, W] to the precision and to channels-last is timed, as for PyTorch.
    """

    name = "xla"

    def load(self, args):
        jax, numpy = self.jax, self.jax.numpy
        kinds = {"f32": numpy.float32, "tf32": numpy.float32, "bf16": numpy.bfloat16, "f16": numpy.float16}
        if args.device == "cpu" and args.precision not in ("f32", "bf16"):
            raise Refused(f"XLA takes part on the processor in f32 and bf16, not in {args.precision}")
        try:
            self.device = jax.devices(args.device)[0]
        except RuntimeError:
            raise Refused(f"JAX finds no device of the kind {args.device}") from None
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if args.precision == "tf32" else "float32")
        kind, (module, variables) = kinds[args.precision], self.model(args)
        variables = jax.tree_util.tree_map(lambda value: numpy.asarray(value, kind), variables)
        self.compiled = jax.jit(lambda clip: module.apply(variables, clip.astype(kind)).astype(numpy.float32))
        self.stage(self.clip)
        self.run()  # compiles, which belongs to loading

    def stage(self, clip):
        self.staged = self.jax.device_put(clip, self.device)

    def run(self):
        self.logits = self.compiled(self.staged).block_until_ready()

    def output(self):
        return self.logits


class LiteRt(FlaxPort):
    """LiteRT (once TensorFlow Lite), made for phones, with XNNPACK, whose kernels it uses on a processor by default.

    Its converter makes the file from what JAX lowers the port to; the time for that belongs to loading.
    """

    name = "litert"

    def __init__(self):
        super().__init__()
        import ai_edge_litert
        import litert_converter  # noqa: F401

        self.version = ai_edge_litert.__version__

    def load(self, args):
        if args.precision != "f32" or args.device != "cpu":
            raise Refused("LiteRT takes part on the processor in f32 only")
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_content=self.convert(args), num_threads=args.threads)
        self.interpreter.allocate_tensors()
        self.into, self.out = (
            details[0]["index"]
            for details in (self.interpreter.get_input_details(), self.interpreter.get_output_details())
        )
        self.stage(self.clip)

    def convert(self, args):
        """The network as the bytes of a .tflite file."""
        from litert_converter import converter_api_ext as converter
        from litert_converter.mlir import ir, passmanager
        from litert_converter.mlir.dialects import stablehlo

        (module, variables), jax = self.model(args), self.jax
        lowered = jax.export.export(jax.jit(lambda clip: module.apply(variables, clip)))
        program = lowered(jax.ShapeDtypeStruct(self.clip.shape, self.clip.dtype)).mlir_module_serialized
        context = ir.Context()
        converter.prepare_mlir_context(context)
        with context:
            program = stablehlo.deserialize_portable_artifact(context, program)
            passes, settings = passmanager.PassManager(), converter.ConvertToTFLConfig()
            converter.run_convert_to_tfl_passes(program, passes, settings)
            converter.set_signature(program.operation, "serving_default", ["clip"], ["logits"])
            return converter.export_flatbuffer_to_bytes(program.operation)

    def stage(self, clip):
        self.interpreter.set_tensor(self.into, clip)

    def run(self):
        self.interpreter.invoke()

    def output(self):
        return self.interpreter.get_tensor(self.out)


class TorchPort:
    """scripts/examples/torch_port.py in channels-last, with the clip as float32 [N, 3, T, H, W] on the device.

    Its conversion to the precision and to channels-last is timed: our engine converts the same clip.
    """

    frames = None

    def __init__(self):
        import torch

        self.torch, self.version = torch, torch.__version__

    def prepare(self, args, device):
        torch = self.torch
        if device == "cuda" and not torch.cuda.is_available():
            raise Refused("PyTorch finds no CUDA device")
        torch.backends.cudnn.benchmark = True
        for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
            backend.allow_tf32 = args.precision == "tf32"
        kinds = {"f32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
        kind = kinds[args.precision]
        model = self.model(args).to(device, kind, memory_format=torch.channels_last)
        self.staged = torch.from_numpy(self.clip).to(device)

        def forward(clip):
            planes = clip.flatten(1, 2).to(kind, memory_format=torch.channels_last)
            return model(planes.unflatten(1, (3, -1)))

        return forward

    def model(self, args):
        config = json.loads(args.config)
        model = port("torch_port").SqueezeTime(
            config["depth"], config["width"], config["frames"], config["classes"], config["pos_dim"]
        )
        weights = {name: self.torch.from_numpy(value) for name, value in safetensors(args.weights).items()}
        missing, unknown = model.load_state_dict(weights, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing or unknown:
            raise Refused(f"the weights do not fit the PyTorch port: {(missing + unknown)[:3]}")
        return model.eval().requires_grad_(False)

    def run_bytes(self):
        """Copies frames in bytes to the device and normalises them there."""
        torch = self.torch
        if self.frames is None:
            self.frames = torch.from_numpy(frames_of(self.clip))
            self.mean, self.std = (torch.tensor(values, device=self.staged.device) for values in (MEAN, STD))
        with torch.inference_mode():
            values = (self.frames.to(self.staged.device).float() - self.mean) / self.std
            self.staged.copy_(values.permute(0, 4, 1, 2, 3))
        self.run()

    def output(self):
        return self.logits.float().cpu().numpy()


class TorchGraph(TorchPort):
    """PyTorch at its fastest without a compiler: channels-last, cuDNN tuned for the shape, in a CUDA graph."""

    name = "torch-graph"

    def load(self, args):
        torch, forward = self.torch, self.prepare(args, "cuda")
        # Warm-up: cuDNN must be tuned and memory allocated before the graph is recorded.
        side = torch.cuda.Stream()
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(3):
                forward(self.staged)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph), torch.inference_mode():
            self.logits = forward(self.staged)

    def run(self):
        self.graph.replay()
        self.torch.cuda.synchronize()

    def profile(self, n):
        raise Refused("a CUDA graph cannot be profiled")

    def peaks(self):
        """Speed of a large matrix product, GFLOP/s, and of a large copy, GB/s read and written."""
        torch, side, count = self.torch, 8192, 10
        kind = self.logits.dtype
        a, b = (torch.randn(side, side, device="cuda", dtype=kind) for _ in range(2))
        room, copied = (torch.empty(1 << 30, device="cuda", dtype=torch.uint8) for _ in range(2))

        def seconds(work):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            for at in range(3 + count):
                if at == 3:
                    start.record()
                work()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end) / 1e3 / count

        product, copy = seconds(lambda: a @ b), seconds(lambda: copied.copy_(room))
        return {"gflops": 2 * side**3 / product / 1e9, "gbs": 2 * room.numel() / copy / 1e9}


class TorchCompile(TorchPort):
    """torch.compile with frozen weights: max-autotune on the processor, CUDA graphs (reduce-overhead) on a GPU."""

    name = "torch-compile"

    def load(self, args):
        torch = self.torch
        from torch._inductor import config as inductor

        gpu = args.device != "cpu"
        if not gpu and args.precision not in ("f32", "bf16"):
            raise Refused(f"torch.compile computes on the processor in f32 or bf16, not in {args.precision}")
        torch.set_num_threads(args.threads)
        inductor.freezing = True
        forward = self.prepare(args, "cuda" if gpu else "cpu")
        self.compiled = torch.compile(forward, mode="reduce-overhead" if gpu else "max-autotune", dynamic=False)
        self.wait = torch.cuda.synchronize if gpu else lambda: None
        # The network is compiled by the first run and recorded by the second one, which belong to loading.
        for _ in range(3):
            self.run()

    def run(self):
        with self.torch.inference_mode():
            self.logits = self.compiled(self.staged)
        self.wait()

    def profile(self, n):
        raise Refused("a compiled network is not profiled")
