#!/usr/bin/env bash
# Trains on several machines of a Slurm cluster, one process for each GPU.
#
#   sbatch egs/slakh_ucr/cluster/slurm.sh --config local/reference.yml --data.root DIR
#
# The arguments are options of `asteroid-ucr cache` and `asteroid-ucr train`. Change the numbers
# below, which Lightning checks against training.devices and training.num_nodes. A job that was
# stopped or requeued goes on from the last checkpoint, with the same loss curve.
#SBATCH --job-name=asteroid-ucr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=6
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}/egs/slakh_ucr"
cache=${TMPDIR:-/tmp}/asteroid_ucr_cache # on the local disk of each machine
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK OMP_WAIT_POLICY=passive

# The tasks of each machine fill its cache together. Those that are done wait for the others.
srun --kill-on-bad-exit=1 bash -c \
  'asteroid-ucr cache ucr "$@" --shard $((SLURM_LOCALID + 1))/$SLURM_NTASKS_PER_NODE' \
  cache "$@" --data.cache "$cache"
srun --kill-on-bad-exit=1 asteroid-ucr train ucr "$@" --data.cache "$cache" \
  --training.devices "$SLURM_NTASKS_PER_NODE" --training.num_nodes "$SLURM_NNODES" \
  --training.strategy ddp --exp_dir exp/train_ucr_slurm
