#!/usr/bin/env bash
# Train on a SLURM cluster, over any number of machines, and go on by itself when the time of a job is over.
#
#   sbatch examples/slurm.sh --config r101c4_coco_3x --output /shared/runs/coco train.batch_size=16
#
# The words are those of `faster-rcnn train`; --output must be on a disk that all machines share, and several processes
# need --config. Five minutes before the end SLURM sends SIGUSR1 to every process; the run saves, ends with exit code 138,
# and the job is put back into the queue. It goes on where it stopped, with the same weights as if it had never been
# interrupted. Anything but 0 and 138 is a failure, and stays one.
#SBATCH --job-name=faster-rcnn
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=6
#SBATCH --time=08:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

# The first machine of the job, where the processes meet.
if command -v scontrol > /dev/null && [ -n "${SLURM_JOB_NODELIST:-}" ]; then
  MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
fi
export MASTER_ADDR="${MASTER_ADDR:-127.0.0.1}"
export MASTER_PORT="${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

# One process a task, each in the place of its shell, so that SLURM's signal reaches it and nothing stands between.
srun --kill-on-bad-exit=0 bash -c '
  export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
  exec faster-rcnn train --resume "$@"
' train "$@"
code=$?

if [ "$code" -eq 138 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
