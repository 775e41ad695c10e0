#!/usr/bin/env python3
"""Evaluates the shards of a list with Ray (PyPI: ray).

    with_ray.py --shards 8 --out DIR -- harness eval k400 --data DIR --weights FILE

evaluates shard I into DIR/I, one task of Ray for each shard. Ray gives the task of a lost node to another one, and a
shard that was killed or stopped (exit code 75) is tried again; the same command continues a run. Every node must see
DIR and the videos. The exit code is 0 if every shard came to its end, and 75 if not: run it again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import ray


def evaluate(command, shard, of, out):
    """Runs one shard; raises an error, so that Ray tries it again, if it was killed or stopped."""
    with open(out / f"{shard}.log", "ab") as log:
        words = [*command, "--shard", f"{shard}/{of}", "--out", str(out / str(shard))]
        code = subprocess.run(words, stdout=log, stderr=log).returncode
    if code not in (0, 1, 2):
        raise ChildProcessError(f"shard {shard} ended with {code}")
    return code


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--cpus", type=float, default=1, help="cores of a shard, and --gpus likewise")
    parser.add_argument("--gpus", type=float, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("command", nargs="+", help="harness eval …, without --shard and --out")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    ray.init()
    task = ray.remote(num_cpus=args.cpus, num_gpus=args.gpus, max_retries=3, retry_exceptions=True)(evaluate)
    runs = [task.remote(args.command, shard, args.shards, out) for shard in range(1, args.shards + 1)]
    codes = []
    for shard, run in enumerate(runs, 1):
        try:
            codes.append(ray.get(run))
        except ray.exceptions.RayError as error:
            print(f"shard {shard}: {str(error).splitlines()[-1]}", file=sys.stderr)
            codes.append(75)
    return 75 if 75 in codes else 2 if 2 in codes else 0


if __name__ == "__main__":
    sys.exit(main())
