"""Peers that read the network as an ONNX file."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

from .common import Refused, Runtime


def last_line(process):
    """The last line that a process printed, of at most 200 characters."""
    return "".join((process.stdout + process.stderr).strip().splitlines()[-1:])[:200]


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
        # Otherwise importing OpenVINO reports to a server; without this package it does not.
        sys.modules["openvino_telemetry"] = None
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
        # Not by MNN.tools.mnnconvert: that runs `pip install` in whatever Python is on PATH and reports each conversion,
        # with the machine's id, to a server.
        converter = "import sys, _tools; _tools.mnnconvert(sys.argv)"
        flags = ["-f", "ONNX", "--modelFile", args.model, "--MNNModel", path, "--bizCode", "bench"]
        made = subprocess.run([sys.executable, "-c", converter, *flags], capture_output=True, text=True)
        if not os.path.exists(path):
            raise Refused(f"MNN does not convert this file: {last_line(made)}")
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


class Ncnn(Runtime):
    """ncnn, made for phones, from the ONNX file by its converter pnnx, whose time belongs to loading.

    Its networks have no batch: the clips of a batch run one after the other.
    """

    name = "ncnn"

    def __init__(self):
        import ncnn

        self.lib = ncnn
        self.version = ncnn.__version__

    def load(self, args):
        if args.precision not in ("f32", "bf16"):
            raise Refused(f"ncnn takes part in f32 and bf16, not in {args.precision}")
        self.network = self.lib.Net()
        options = self.network.opt
        options.num_threads, options.use_vulkan_compute = args.threads, False
        # Stored as bfloat16; ncnn has no other mode in which it computes in bf16.
        options.use_bf16_storage = args.precision == "bf16"
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        folder = os.path.join(os.path.dirname(args.input), f"ncnn-{os.getpid()}")
        os.mkdir(folder)
        try:
            param, weights = self.convert(args.model, folder)
            if self.network.load_param(param) or self.network.load_model(weights):
                raise Refused("ncnn does not read what pnnx made of this file")
        finally:
            shutil.rmtree(folder)
        self.stage(self.clip)

    def convert(self, model, folder):
        """The paths of the network and of its weights in ncnn's format."""
        # Importing pnnx would need PyTorch, which its converter, a program in the same folder, does not.
        found = importlib.util.find_spec("pnnx")
        if not found:
            raise Refused("pnnx is not installed; run scripts/bench, which installs it")
        kinds = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnparam", "ncnnbin", "ncnnpy")
        paths = {kind: os.path.join(folder, kind) for kind in kinds}
        shape = ",".join(str(extent) for extent in (1, *self.clip.shape[1:]))
        command = [os.path.join(os.path.dirname(found.origin), "pnnx"), model, f"inputshape=[{shape}]", "fp16=0"]
        command += [f"{kind}={path}" for kind, path in paths.items()]
        made = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        param, weights = paths["ncnnparam"], paths["ncnnbin"]
        if not (os.path.exists(param) and os.path.exists(weights)):
            raise Refused(f"pnnx does not convert this file: {last_line(made)}")
        return param, weights

    def stage(self, clip):
        # A Mat shares the memory of its clip.
        self.clip, self.staged = clip, [self.lib.Mat(one) for one in clip]

    def run(self):
        self.logits = [self.run_one(clip) for clip in self.staged]

    def run_one(self, clip):
        with self.network.create_extractor() as extractor:
            extractor.input("in0", clip)
            code, logits = extractor.extract("out0")
        if code:
            raise RuntimeError(f"ncnn ends with code {code}")
        return logits

    def output(self):
        import numpy

        return numpy.stack([numpy.array(logits) for logits in self.logits])

    def profile(self, n):
        raise Refused("ncnn's Python package has no times of layers")


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
