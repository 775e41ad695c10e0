"""Times decoding and resizing, with the contestants interleaved round by round. Run by scripts/bench_preprocess."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import decord
import numpy as np

ROUNDS_OF_VIEWS = 5  # as in experiments/video/examples/preprocess.rs
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


class Ours:
    """The Rust program of this project, which answers requests line by line."""

    def __init__(self, program):
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self.child.stdout.readline().strip()

    def ask(self, what, path):
        print(f"{what} {path}", file=self.child.stdin, flush=True)
        answer = self.child.stdout.readline().split()
        if len(answer) != 3:
            sys.exit(f"bench_preprocess: the Rust program failed on {path}; see its message above.")
        return float(answer[0]), int(answer[1]), int(answer[2])


def decode_decord(path):
    start = time.perf_counter()
    reader = decord.VideoReader(path, num_threads=1)
    count = total = 0
    for index in range(len(reader)):
        frame = reader[index].asnumpy().reshape(-1)
        total += int(frame[frame.size // 2])
        count += 1
    return time.perf_counter() - start, count, total


def decode_pyav(path):
    start = time.perf_counter()
    count = total = 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for frame in container.decode(stream):
            pixels = frame.to_ndarray(format="rgb24").reshape(-1)
            total += int(pixels[pixels.size // 2])
            count += 1
    return time.perf_counter() - start, count, total


def views_opencv(path):
    reader = decord.VideoReader(path, num_threads=1)
    n = len(reader)
    offset = max(n - 61, 0) // 2
    frames = [reader[(offset + 4 * t) % n].asnumpy() for t in range(16)]
    height, width = frames[0].shape[:2]
    factor = 256 / min(width, height)
    size = int(width * factor + 0.5), int(height * factor + 0.5)
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    start = time.perf_counter()
    for _ in range(ROUNDS_OF_VIEWS):
        small = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames]
        pixels = np.stack([frame[top : top + 224, left : left + 224] for frame in small])
        values = np.ascontiguousarray(((pixels - MEAN) / STD).transpose(3, 0, 1, 2))
    seconds = time.perf_counter() - start
    assert values.shape == (3, 16, 224, 224)
    return seconds, 16 * ROUNDS_OF_VIEWS, int(pixels.sum(dtype=np.int64))


def make_video(folder):
    """Makes a video like a clip of Kinetics: 340 x 256, 300 frames, H.264."""
    path = str(Path(folder) / "made.mp4")
    ffmpeg = os.environ.get("FFMPEG") or os.environ.get("HARNESS_FFMPEG") or "ffmpeg"
    source = "testsrc2=size=340x256:rate=30:duration=10,noise=alls=8:allf=t"
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p", path]
    subprocess.run(command, check=True)
    return path


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measure(contestants, videos, rounds):
    rates = {key: [] for key in contestants}
    for number in range(rounds + 1):  # the first round is a warm-up
        for video in videos:
            answers = {}
            for (stage, name), run in contestants.items():
                seconds, count, total = run(video)
                answers[stage, name] = count, total
                if number:
                    rates[stage, name].append(count / seconds)
            views = {answers[key] for key in answers if key[0] != "decode"}
            counts = {answers[key][0] for key in answers if key[0] == "decode"}
            if len(views) != 1 or len(counts) != 1:
                sys.exit(f"bench_preprocess: the contestants gave different output for {video}: {answers}")
    return rates


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    arguments = parser.parse_intermixed_args()
    cv2.setNumThreads(1)
    ours = Ours(arguments.program)
    contestants = {
        ("decode", "ours (ffmpeg process)"): lambda path: ours.ask("decode", path),
        ("decode", "decord"): decode_decord,
        ("decode", "PyAV"): decode_pyav,
        ("resize + crop + normalise", "ours"): lambda path: ours.ask("views", path),
        ("resize + crop + normalise", "OpenCV + numpy"): views_opencv,
    }
    with tempfile.TemporaryDirectory() as folder:
        videos = [os.path.abspath(video) for video in arguments.videos] or [make_video(folder)]
        rates = measure(contestants, videos, arguments.rounds)
    versions = {"ours": ours.version, "decord": decord.__version__, "av": av.__version__}
    versions |= {"opencv": cv2.__version__, "numpy": np.__version__}
    rows, best = [], {}
    for (stage, name), values in rates.items():
        q1, median, q3 = statistics.quantiles(values, n=4)
        best.setdefault(stage, median)
        rows.append({"stage": stage, "contestant": name, "unit": "frames/s", "median": median, "q1": q1, "q3": q3,
                     "ours_over_it": best[stage] / median})  # fmt: skip
    print(f"{cpu()}, {os.cpu_count()} cores, {platform.system()}; one thread per contestant; {arguments.rounds} rounds")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{'stage':26} {'contestant':22} {'frames/s':>9} {'quartiles':>17} {'ours / it':>10}")
    for row in rows:
        quartiles = f"{row['q1']:.0f} to {row['q3']:.0f}"
        print(f"{row['stage']:26} {row['contestant']:22} {row['median']:9.0f} {quartiles:>17} {row['ours_over_it']:10.2f}")
    if arguments.json:
        record = {"machine": cpu(), "cores": os.cpu_count(), "versions": versions, "rounds": arguments.rounds, "rows": rows}
        Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
