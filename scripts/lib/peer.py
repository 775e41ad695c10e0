"""A peer in `harness bench`: ONNX Runtime, OpenVINO, MNN, tract, PyTorch or XLA in a separate process.

    python peer.py onnxruntime|openvino|mnn|tract --model FILE.onnx --input FILE.npy --threads N --precision f32|bf16
    python peer.py torch-graph|torch-compile|xla --weights FILE.safetensors --config JSON --device cpu|cuda --input FILE.npy
        --threads N --precision …

Requests on stdin and answers on stdout are JSON objects, one per line. The module `contestant` of `harness bench`
documents them.
"""

import argparse
import json
import os
import subprocess
import sys
import time


MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of red, green and blue, for values from 0 to 255


class Refused(Exception):
    """A request that the peer does not support; the message is one sentence."""


def status(field):
    """A size from /proc/self/status in bytes; 0 if it is not available."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def frames_of(clip):
    """The bytes [N, T, H, W, 3] from which a clip [N, 3, T, H, W] was normalised."""
    import numpy

    values = clip.transpose(0, 2, 3, 4, 1) * numpy.float32(STD) + numpy.float32(MEAN)
    return numpy.ascontiguousarray(numpy.rint(values).astype(numpy.uint8))


class Runtime:
    """A runtime that takes the clip as a numpy array."""

    frames = None

    def run_bytes(self):
        """Runs the network on frames in bytes."""
        import numpy

        if self.frames is None:
            self.frames = frames_of(self.clip)
        values = (self.frames.astype(numpy.float32) - numpy.float32(MEAN)) / numpy.float32(STD)
        self.stage(numpy.ascontiguousarray(values.transpose(0, 4, 1, 2, 3)))
        self.run()


class OnnxRuntime(Runtime):
    name = "onnxruntime"

    def __init__(self):
        import onnxruntime

        self.lib = onnxruntime
        self.version = onnxruntime.__version__

    def load(self, args):
        if args.precision != "f32":
            raise Refused(f"ONNX Runtime computes this model on the processor in f32, not in {args.precision}")
        self.args = args
        self.session = self.open()
        self.bound = self.bind(self.session)

    def open(self, **more):
        options = self.lib.SessionOptions()
        options.intra_op_num_threads = self.args.threads
        options.inter_op_num_threads = 1
        options.execution_mode = self.lib.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self.lib.GraphOptimizationLevel.ORT_ENABLE_ALL
        for key, value in more.items():
            setattr(options, key, value)
        return self.lib.InferenceSession(self.args.model, options, providers=["CPUExecutionProvider"])

    def bind(self, session):
        """Binds the clip and the output, so that no run copies them."""
        bound = session.io_binding()
        self.staged = self.lib.OrtValue.ortvalue_from_numpy(self.clip)
        bound.bind_ortvalue_input(session.get_inputs()[0].name, self.staged)
        bound.bind_output(session.get_outputs()[0].name, "cpu")
        return bound

    def stage(self, clip):
        self.staged.update_inplace(clip)

    def run(self):
        self.session.run_with_iobinding(self.bound)

    def output(self):
        return self.bound.copy_outputs_to_cpu()[0]

    def profile(self, n):
        prefix = os.path.join(os.path.dirname(self.args.input), f"ort-{os.getpid()}")
        session = self.open(enable_profiling=True, profile_file_prefix=prefix)
        bound = self.bind(session)
        for _ in range(n + 1):
            session.run_with_iobinding(bound)
        path = session.end_profiling()
        with open(path) as file:
            events = json.load(file)
        os.unlink(path)
        times = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                key = (event["name"][: -len("_kernel_time")], event["args"].get("op_name", ""))
                times.setdefault(key, []).append(event["dur"])
        # Each node runs once per run. The first run is a warm-up and does not count.
        return [{"name": k[0], "kind": k[1], "ms": sum(v[1:]) / 1e3 / n} for k, v in times.items()]


class OpenVino(Runtime):
    name = "openvino"

    def __init__(self):
        import openvino

        self.lib = openvino
        self.version = openvino.__version__.split("-")[0]

    def load(self, args):
        self.args = args
        self.request = self.bind(self.open())

    def bind(self, compiled):
        """A request that shares the memory of the clip."""
        request = compiled.create_infer_request()
        request.set_input_tensor(self.lib.Tensor(self.clip, shared_memory=True))
        return request

    def open(self, **more):
        settings = {
            "INFERENCE_PRECISION_HINT": self.args.precision,
            "INFERENCE_NUM_THREADS": self.args.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            **more,
        }
        compiled = self.lib.Core().compile_model(self.args.model, "CPU", settings)
        used = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
        wanted = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(self.args.precision, "?")
        if wanted not in used and self.args.precision not in used:
            raise Refused(f"OpenVINO computes in {used} on this processor, not in {self.args.precision}")
        return compiled

    def stage(self, clip):
        self.clip[:] = clip

    def run(self):
        # share_outputs avoids a copy of the outputs.
        self.request.infer(share_outputs=True)

    def output(self):
        return self.request.get_output_tensor(0).data

    def profile(self, n):
        request = self.bind(self.open(PERF_COUNT=True))
        request.infer()  # a warm-up, which does not count
        sums = {}
        for _ in range(n):
            request.infer()
            for entry in request.profiling_info:
                key = (entry.node_name, entry.node_type)
                sums[key] = sums.get(key, 0.0) + entry.real_time.total_seconds() * 1e3
        return [{"name": k[0], "kind": k[1], "ms": v / n} for k, v in sums.items() if v > 0]


class Mnn(Runtime):
    """MNN, made for phones, from the ONNX file by its own converter, whose time belongs to loading."""

    name = "mnn"

    def __init__(self):
        import MNN.expr
        import MNN.nn

        self.expr, self.nn = MNN.expr, MNN.nn
        self.version = MNN.version()

    def load(self, args):
        if args.precision != "f32":
            raise Refused(f"MNN computes this model on x86 in f32, not in {args.precision}")
        path = os.path.join(os.path.dirname(args.input), f"mnn-{os.getpid()}.mnn")
        converter = "import sys; from MNN.tools.mnnconvert import main; sys.exit(main())"
        flags = ["-f", "ONNX", "--modelFile", args.model, "--MNNModel", path, "--bizCode", "bench"]
        made = subprocess.run([sys.executable, "-c", converter, *flags], capture_output=True, text=True)
        if not os.path.exists(path):
            last = (made.stdout + made.stderr).strip().splitlines()[-1:]
            raise Refused(f"MNN does not convert this file: {''.join(last)[:200]}")
        # "high" is float32; "normal" and "low" may use 16 bits.
        settings = ({"backend": "CPU", "precision": "high", "numThread": args.threads},)
        manager = self.nn.create_runtime_manager(settings)
        self.network = self.nn.load_module_from_file(path, ["input"], ["logits"], runtime_manager=manager)
        os.unlink(path)
        self.stage(self.clip)

    def stage(self, clip):
        self.staged = self.expr.const(clip, list(clip.shape), self.expr.NCHW)

    def run(self):
        self.logits = self.network.forward([self.staged])[0].read()

    def output(self):
        import numpy

        return numpy.array(self.logits, dtype=numpy.float32).reshape(self.clip.shape[0], -1)

    def profile(self, n):
        raise Refused("MNN's Python package has no times of layers")


class Tract(Runtime):
    """tract, an inference library in Rust. Its Python package computes on one thread."""

    name = "tract"

    def __init__(self):
        import tract

        self.lib = tract
        self.version = tract.version()

    def load(self, args):
        if args.precision != "f32" or args.threads != 1:
            raise Refused("tract computes this model in f32 on one thread only")
        model = self.lib.onnx().load(args.model)
        model.set_input_fact(0, ",".join(str(extent) for extent in self.clip.shape) + ",f32")
        self.runnable = model.into_model().into_runnable()
        self.stage(self.clip)

    def stage(self, clip):
        self.staged = self.lib.Tensor.from_numpy(clip)

    def run(self):
        self.logits = self.runnable.run([self.staged])[0]

    def output(self):
        return self.logits.to_numpy()

    def profile(self, n):
        raise Refused("tract's Python package has no times of layers")


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
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples"))
    return __import__(name)


class Xla(Runtime):
    """XLA, the compiler of JAX: scripts/examples/flax_port.py, compiled with its weights as constants.

    Its conversion of the float32 clip [N, 3, T, H, W] to the precision and to channels-last is timed, as for PyTorch.
    """

    name = "xla"

    def __init__(self):
        import flax  # noqa: F401  (the port needs it)
        import jax

        self.jax, self.version = jax, jax.__version__

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

    def stage(self, clip):
        self.staged = self.jax.device_put(clip, self.device)

    def run(self):
        self.logits = self.compiled(self.staged).block_until_ready()

    def output(self):
        return self.logits

    def profile(self, n):
        raise Refused("a compiled network is not profiled")


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


PEERS = {peer.name: peer for peer in (OnnxRuntime, OpenVino, Mnn, Tract, TorchGraph, TorchCompile, Xla)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--model", help="the network as ONNX")
    parser.add_argument("--weights", help="the weights as safetensors, for PyTorch and XLA")
    parser.add_argument("--config", help="the configuration as JSON, for PyTorch and XLA")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for PyTorch and XLA")
    parser.add_argument("--input", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--precision", choices=["f32", "bf16", "tf32", "f16"], required=True)
    args = parser.parse_args()
    # NPROC is the number of threads of XLA.
    os.environ["OMP_NUM_THREADS"] = os.environ["NPROC"] = str(args.threads)
    import numpy

    # Answers go to the original stdout; output of the libraries is redirected to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**what):
        print(json.dumps(what), file=answers, flush=True)

    def timed(function, *arguments):
        start = time.perf_counter()
        value = function(*arguments)
        return value, time.perf_counter() - start

    try:
        try:
            peer = PEERS[args.peer]()
        except ImportError:
            raise Refused(f"{args.peer} is not installed; run scripts/bench, which installs it") from None
        peer.clip = numpy.ascontiguousarray(numpy.load(args.input))
        before = status("VmRSS")
        _, load_s = timed(peer.load, args)
        _, first_s = timed(peer.run)
        answer(ready=True, name=peer.name, version=peer.version, load_s=load_s, first_s=first_s)
        for line in sys.stdin:
            command = json.loads(line)
            if command["cmd"] in ("run", "bytes"):
                run = peer.run if command["cmd"] == "run" else peer.run_bytes
                seconds = []
                for _ in range(command["n"]):
                    _, took = timed(run)
                    seconds.append(took)
                answer(seconds=seconds)
            elif command["cmd"] == "output":
                numpy.save(command["path"], numpy.asarray(peer.output(), dtype=numpy.float32))
                answer(written=command["path"])
            elif command["cmd"] == "memory":
                answer(peak_bytes=max(status("VmHWM") - before, 0))
            elif command["cmd"] == "peaks":
                answer(**peer.peaks())
            elif command["cmd"] == "profile":
                answer(layers=peer.profile(max(command["n"], 1)))
            else:
                break
    except Refused as refusal:
        answer(error=str(refusal), unsupported=True)
        return 2
    except Exception as error:  # errors of the libraries, reported in one line
        answer(error=f"{args.peer}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
