"""A peer in `harness bench`: another runtime, in a process of its own.

    python peer.py onnxruntime|openvino|mnn|ncnn|tract --model FILE.onnx --input FILE.npy --threads N --precision f32|bf16
    python peer.py torch-graph|torch-compile|xla|litert --weights FILE.safetensors --config JSON --device cpu|cuda
        --input FILE.npy --threads N --precision …

Requests on stdin and answers on stdout are JSON objects, one per line. The module `contestant` of `harness bench`
documents them.
"""

import argparse
import json
import os
import sys
import time

from peers.common import Refused
from peers.from_onnx import Mnn, Ncnn, OnnxRuntime, OpenVino, Tract
from peers.from_weights import LiteRt, TorchCompile, TorchGraph, Xla


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


PEERS = {
    peer.name: peer
    for peer in (OnnxRuntime, OpenVino, Mnn, Ncnn, Tract, LiteRt, TorchGraph, TorchCompile, Xla)
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--model", help="the network as ONNX")
    parser.add_argument("--weights", help="the weights as safetensors, for the ports")
    parser.add_argument("--config", help="the configuration as JSON, for the ports")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the ports")
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
