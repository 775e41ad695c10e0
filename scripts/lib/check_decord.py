"""Compares the frames that the harness evaluates with decord's. Run by scripts/check_decord."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import decord
import numpy as np

FFMPEG = os.environ.get("FFMPEG") or os.environ.get("HARNESS_FFMPEG") or "ffmpeg"
SOURCE = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=10"]
H264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
OPEN = ["-g", "30", "-x264-params", "open-gop=1:bframes=4:scenecut=0"]
H265 = ["-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params", "log-level=none:keyint=30"]
# Name of each file and how it is made; a name without a folder is one of those made before.
MADE = {
    "h264.mp4": SOURCE + H264 + ["-g", "40"],
    "h264_no_b.mp4": SOURCE + H264 + ["-g", "40", "-bf", "0"],
    "h264_open.mp4": SOURCE + H264 + OPEN,
    "h265.mp4": SOURCE + H265,
    "mpeg4_b.mp4": SOURCE + ["-c:v", "mpeg4", "-bf", "2", "-g", "25"],
    "mpeg2_b.mp4": SOURCE + ["-c:v", "mpeg2video", "-bf", "2", "-g", "12"],
    "odd.mp4": ["-f", "lavfi", "-i", "testsrc2=size=161x121:rate=25:duration=4", "-c:v", "mpeg4"],
    "h264_444.mp4": SOURCE + ["-c:v", "libx264", "-pix_fmt", "yuv444p"],
    "variable.mp4": SOURCE + ["-vf", r"select='not(mod(n\,3))+lt(mod(n\,31)\,9)'", "-fps_mode", "vfr"] + H264,
    "sound.mp4": SOURCE + ["-f", "lavfi", "-i", "sine=duration=12"] + H264 + ["-c:a", "aac"],
    "fragments.mp4": ["-i", "h264.mp4", "-c", "copy", "-movflags", "frag_keyframe+empty_moov"],
    "late.mp4": ["-itsoffset", "1.5", "-i", "h264.mp4", "-c", "copy"],
    "cut_end.mp4": ["-ss", "2.3", "-i", "h264.mp4", "-t", "4", "-c", "copy"],
    "cut.mov": ["-ss", "2.3", "-i", "h264.mp4", "-c", "copy"],
    "cut_sound.mp4": ["-ss", "2.3", "-i", "sound.mp4", "-c", "copy"],
    "mpeg4.avi": SOURCE + ["-c:v", "mpeg4", "-g", "25"],
    "mpeg4_b.avi": SOURCE + ["-c:v", "mpeg4", "-bf", "2", "-g", "25"],
    "mjpeg.avi": SOURCE + ["-c:v", "mjpeg"],
    "h264.avi": ["-i", "h264_no_b.mp4", "-c", "copy"],
    "h264.mkv": ["-i", "h264.mp4", "-c", "copy"],
    "h264_open.mkv": ["-i", "h264_open.mp4", "-c", "copy"],
    "h265.mkv": ["-i", "h265.mp4", "-c", "copy"],
    "h264.flv": ["-i", "h264.mp4", "-c", "copy"],
    "h264_no_b.ts": ["-i", "h264_no_b.mp4", "-c", "copy"],
    "h264.ts": ["-i", "h264.mp4", "-c", "copy"],
    "mpeg2.mpg": SOURCE + ["-c:v", "mpeg2video", "-bf", "2", "-g", "12"],
    "vp8.webm": SOURCE + ["-c:v", "libvpx", "-b:v", "300k", "-g", "50", "-auto-alt-ref", "1", "-lag-in-frames", "16"],
    "vp9.webm": SOURCE + ["-c:v", "libvpx-vp9", "-b:v", "200k", "-g", "50", "-cpu-used", "8"],
    "wmv.wmv": SOURCE + ["-c:v", "wmv2", "-g", "12"],
} | {
    f"cut_{second}_{name}": ["-ss", second, "-i", name, "-c", "copy"]
    for name in ["h264.mp4", "h264_no_b.mp4", "h264_open.mp4", "h265.mp4", "mpeg4_b.mp4"]
    for second in ["0.5", "1.7", "3.1"]
}


def make(folder):
    """Makes the files, and returns the paths of those that this ffmpeg can make."""
    environment = dict(os.environ, GCONV_PATH="/nonexistent")
    paths = []
    for name, how in MADE.items():
        command = [FFMPEG, "-v", "error", "-nostdin", "-y", *how, name]
        if subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL).returncode == 0:
            paths.append(str(Path(folder) / name))
        else:
            print(f"{name}: this ffmpeg cannot make it")
    return paths


def sampled(count, clips):
    """The indexes of all clips of the protocols of Kinetics, one after the other."""
    room = max(count - 61, 0)
    offsets = [room // 2] if clips == 1 else np.around(np.arange(clips) * (room / (clips - 1))).astype(int)
    return [int((offset + 4 * t) % count) for offset in offsets for t in range(16)]


def of_decord(path, clips):
    """Number of frames and SHA-256 of the sampled ones; no number if decord raises an error."""
    try:
        reader = decord.VideoReader(path, num_threads=1)
        frames = reader.get_batch(sampled(len(reader), clips)).asnumpy()
    except Exception:  # decord has no error type of its own for a file that it cannot read
        return 0, "-"
    return len(reader), hashlib.sha256(frames.tobytes()).hexdigest()


def verdict(ours, theirs):
    """How the harness and decord compare on a file: a text, and whether that is what the harness says."""
    (count, sha, takes, why), (decord_count, decord_sha) = ours, theirs
    if not decord_count or not count:
        return f"decord {'raises' if not decord_count else 'reads it'}; {why}", not decord_count
    if count != decord_count:
        return f"{count} frames, decord {decord_count}", False
    if sha == decord_sha:
        return "same bytes" + ("" if why == "-" else f" (but named: {why})"), True
    if takes == decord_sha:
        return f"named, with decord's frames: {why}", True
    return f"named: {why}" if why != "-" else "DIFFERENT", why != "-" and takes == "-"


def main(program, paths):
    decord.logging.set_level(decord.logging.QUIET)
    with tempfile.TemporaryDirectory() as folder:
        paths = paths or make(folder)
        answer = subprocess.run([program, *paths], stdout=subprocess.PIPE, text=True, check=True).stdout
        bad = 0
        for line in answer.splitlines():
            path, mode, count, *ours = line.split("\t")
            text, said = verdict((int(count), *ours), of_decord(path, 1 if mode == "val" else 10))
            bad += not said
            print(f"{Path(path).name:24} {mode:4} {text if said else 'WRONG: ' + text}")
    print(f"{bad} of {len(answer.splitlines())} comparisons are not as the harness says")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
