#!/usr/bin/env python3
"""Evaluates the shards of a list with HyperQueue's Python package (PyPI: hyperqueue), without the program hq.

    with_hyperqueue.py --shards 8 --workers 2 --out DIR -- harness eval k400 --data DIR --weights FILE

starts a server and workers in this process and evaluates shard I into DIR/I. A shard that was killed or stopped is
given to a worker again, up to --tries times. The same command continues after any end of this process, too. With
--server DIR, the tasks go to the server that hq has started there. The exit code is 0 if every shard came to its end,
with or without a finding (exit codes 0 and 1 of the harness), 2 if a shard was refused, and 75 otherwise: run it again.
"""

import argparse
import sys
from pathlib import Path

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.client import FailedJobsException
from hyperqueue.cluster import WorkerConfig

# How HyperQueue's errors end, to which every exit code but 0 is a failure. A shard that diverges has come to its end;
# one that is refused would be refused again.
DIVERGED, REFUSED = "exit code 1.", "exit code 2."


def submit(client, command, out, of, shards):
    """Runs the shards, and returns the errors of those that failed."""
    job = Job()
    names = {}
    for shard in shards:
        words = [*command, "--shard", f"{shard}/{of}", "--out", str(out / str(shard))]
        log = out / f"{shard}.log"
        task = job.program(words, stdout=str(log), stderr=str(log), name=f"shard {shard} of {of}")
        names[task.task_id] = shard
    try:
        client.wait_for_jobs([submitted := client.submit(job)])
        return {}
    except FailedJobsException:
        errors = {names[task]: found.error.strip() for task, found in client.get_failed_tasks(submitted).items()}
        return {shard: error for shard, error in sorted(errors.items()) if not error.endswith(DIVERGED)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cores", type=int, help="cores of a worker; all by default")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--server", help="folder of a server that hq has started")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("command", nargs="+", help="harness eval …, without --shard and --out")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    cluster = None
    if args.server is None:
        cluster = LocalCluster()
        for _ in range(args.workers):
            cluster.start_worker(WorkerConfig(cores=args.cores))
    client = Client(args.server) if cluster is None else cluster.client()
    left = dict.fromkeys(range(1, args.shards + 1), "")
    for _ in range(args.tries):
        left = submit(client, args.command, out, args.shards, left)
        for shard, error in left.items():
            print(f"shard {shard}: {error} See {out}/{shard}.log.", file=sys.stderr)
        refused = any(error.endswith(REFUSED) for error in left.values())
        if refused or not left:
            break
    if cluster is not None:
        cluster.stop()
    return 2 if refused else 75 if left else 0


if __name__ == "__main__":
    sys.exit(main())
