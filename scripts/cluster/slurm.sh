#!/usr/bin/env bash
# One task of an array of Slurm evaluates one shard into OUT/TASK. See README.md here for the commands.
#SBATCH --job-name=eval --output=%x-%A-%a.log --open-mode=append
#SBATCH --requeue --signal=USR1@120
srun "${HARNESS:-harness}" eval "$@" --shard auto --out "${OUT:?}/$SLURM_ARRAY_TASK_ID"
code=$?
# Stopped before its time was over (75), or killed, such as by the kernel for its memory (above 128; three times at
# most): the task goes back to the queue and continues from there.
if [[ $code == 75 ]] || ((code > 128 && ${SLURM_RESTART_COUNT:-0} < 3)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit $code
