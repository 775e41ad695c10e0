#!/usr/bin/env bash
# One task of an array of HyperQueue evaluates one shard into OUT/TASK. See README.md here for the commands.
# HyperQueue starts a task again if its worker is lost. A task that was only stopped (75) goes on at once.
while
    "${HARNESS:-harness}" eval "$@" --shard auto --out "${OUT:?}/$HQ_TASK_ID"
    code=$?
    [[ $code == 75 ]]
do :; done
exit $code
