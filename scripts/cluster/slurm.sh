#!/usr/bin/env bash
# One task of an array of Slurm evaluates one shard into OUT/TASK. See README.md here for the commands.
#SBATCH --job-name=eval --output=%x-%A-%a.log --open-mode=append
#SBATCH --requeue --signal=USR1@120
srun "${HARNESS:-harness}" eval "$@" --shard auto --out "${OUT:?}/$SLURM_ARRAY_TASK_ID"
code=$?
# 75: stopped before its time was over. The job goes back to the queue and continues from there.
[[ $code != 75 ]] || scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
exit $code
