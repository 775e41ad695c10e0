"""Quantises an ONNX file to 8 bits with ONNX Runtime's tool, for the harness, which sends the clips to calibrate with.

Weights become int8 with one scale for each output channel, activations uint8 with one scale for each map, and every
quantiser is a pair of QuantizeLinear and DequantizeLinear (QDQ).
"""

import sys
from pathlib import Path

from harness_channel import Channel, Failure, serve

channel = Channel()


def libraries():
    try:
        import onnx
        from onnxruntime import __version__, quantization
        from onnxruntime.quantization import shape_inference
    except ImportError as error:
        raise Failure(
            f"{error.name} is not installed in {sys.executable}; install onnx and onnxruntime there with pip, name a "
            "Python that has them with --python PATH, or run scripts/harness, which sets one up"
        ) from None
    return onnx, __version__, quantization, shape_inference


def reader_of(quantization, name, paths):
    """The clips, read one at a time, since all of them may not fit into memory."""
    import numpy

    class Clips(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter(paths)

        def get_next(self):
            path = next(self.left, None)
            return None if path is None else {name: numpy.load(path)}

    return Clips()


def quantise(head, clips):
    onnx, version, quantization, shape_inference = libraries()
    prepared = Path(head["model"]).with_name("prepared.onnx")
    # Folds batch normalisation into the convolutions, so that it does not stand between two quantisers.
    shape_inference.quant_pre_process(head["model"], str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared),
        head["out"],
        reader_of(quantization, head["input"], clips),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        # Weights of 7 bits: on processors without VNNI, sums of two products of 8 bits overflow.
        reduce_range=True,
    )
    made = onnx.load(head["out"])
    said = {entry.key: entry.value for entry in onnx.load(head["model"]).metadata_props}
    called = f"ONNX Runtime {version}"
    onnx.helper.set_model_props(made, {**said, "precision": "int8", "quantised": f"{called}, {head['clips']}"})
    onnx.save(made, head["out"])
    count = sum(node.op_type == "QuantizeLinear" for node in made.graph.node)
    return {"called": called, "quantisers": count}


def main():
    import numpy

    clips = []

    def handle(head, arrays):
        if head["kind"] == "clip":
            clips.append(head["path"])
            numpy.save(head["path"], arrays[0])
            return {}
        try:
            return quantise(head, clips)
        except Failure:
            raise
        except Exception as error:  # whatever the library raises is one sentence
            said = " ".join(str(error).split())[:400]
            raise Failure(f"ONNX Runtime cannot quantise it: {type(error).__name__}: {said}") from None

    serve(handle, channel, [__file__])


main()
