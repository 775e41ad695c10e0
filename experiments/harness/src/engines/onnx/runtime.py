"""Runs ONNX files in ONNX Runtime or OpenVINO for the harness, which sends messages (see harness_channel)."""

import sys

from harness_channel import Channel, Failure, serve

channel = Channel()


class OnnxRuntime:
    def __init__(self, threads, device):
        try:
            import onnxruntime
        except ImportError as error:
            raise missing("onnxruntime", error) from None
        self.lib = onnxruntime
        onnxruntime.set_default_logger_severity(3)
        self.threads = threads
        on_gpu = device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if device != "cpu" and not on_gpu:
            raise Failure("this ONNX Runtime has no CUDA; install onnxruntime-gpu, or leave out --device")
        self.providers = ["CUDAExecutionProvider"] * on_gpu + ["CPUExecutionProvider"]
        self.called = f"ONNX Runtime {onnxruntime.__version__} on {'a GPU' if on_gpu else 'the CPU'}"

    def load(self, path, optimise):
        options = self.lib.SessionOptions()
        if not optimise:
            options.graph_optimization_level = self.lib.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        return self.lib.InferenceSession(path, options, providers=self.providers)

    def run(self, session, names, arrays):
        types = {wanted.name: wanted.type for wanted in session.get_inputs()}
        lacking = sorted(set(types) - set(names))
        if lacking:
            raise Failure(f"the file needs the input {lacking[0]!r}, which is not given")
        feeds = {name: typed(array, types[name]) for name, array in zip(names, arrays) if name in types}
        return session.run(None, feeds)


class OpenVino:
    def __init__(self, threads, device):
        # Otherwise importing OpenVINO reports to a server; without this package it does not.
        sys.modules["openvino_telemetry"] = None
        try:
            import openvino
        except ImportError as error:
            raise missing("openvino", error) from None
        self.core = openvino.Core()
        self.threads = threads
        self.device = "CPU" if device == "cpu" else "GPU"
        self.called = f"OpenVINO {openvino.__version__.split('-')[0]} on {self.device}"

    def load(self, path, _optimise):
        model = self.core.read_model(path)
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        if self.device == "CPU":
            # Otherwise a linear layer with int8 weights rounds its input to int8, too, which the file does not say.
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        if self.threads:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        return self.core.compile_model(model, self.device, settings)

    def run(self, compiled, names, arrays):
        wanted = {name: port for port in compiled.inputs for name in port.get_names()}
        feeds = {
            wanted[name]: array.astype(wanted[name].get_element_type().to_dtype(), copy=False)
            for name, array in zip(names, arrays)
            if name in wanted
        }
        results = compiled(feeds)
        return [results[port] for port in compiled.outputs]


RUNTIMES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


def missing(package, error):
    if getattr(error, "name", package) not in (package, "numpy"):
        return Failure(f"{package} cannot be imported in {sys.executable}: {error}")
    return Failure(
        f"{error.name or package} is not installed in {sys.executable}; install it there with pip, name a Python that "
        f"has it with --python PATH, or run scripts/harness, which sets one up"
    )


def typed(array, kind):
    import numpy

    kinds = {"tensor(float)": numpy.float32, "tensor(double)": numpy.float64, "tensor(float16)": numpy.float16}
    if kind not in kinds:
        raise Failure(f"ONNX Runtime's Python interface takes no input of type {kind}; export the file as float32")
    return numpy.asarray(array, kinds[kind])


def one_line(error):
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:400] or 'without a message'}"


def main():
    state = {}

    def handle(head, arrays):
        if head["kind"] == "start":
            state["runtime"] = RUNTIMES[head["runtime"]](head["threads"], head["device"])
            return {"called": state["runtime"].called}
        try:
            loaded = state.get("kept") or state["runtime"].load(head["model"], head["optimise"])
            if head.get("keep"):
                state["kept"] = loaded
            outputs = state["runtime"].run(loaded, head["inputs"], arrays)
        except Failure:
            raise
        except Exception as error:  # whatever the library raises is one sentence
            said = one_line(error)
            if "NOT_IMPLEMENTED" in said or "OpConversionFailure" in said:
                said += "; if the file is in bfloat16, export it as float16 or float32, or try the other --runtime"
            raise Failure(f"{state['runtime'].called} cannot run it: {said}") from None
        return {"types": [str(output.dtype) for output in outputs]}, list(outputs)

    serve(handle, channel, [__file__])


main()
