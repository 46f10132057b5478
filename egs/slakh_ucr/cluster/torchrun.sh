#!/usr/bin/env bash
# Trains on several devices of one or more machines by torchrun, one process for each device.
#
#   bash egs/slakh_ucr/cluster/torchrun.sh --devices 4 --conf local/reference.yml \
#     --options "--data.root DIR" --exp_dir exp/redux
#
# On several machines, run the same command on each, with --nodes N and --host NAME of one of them.
# A process that dies ends the others; the same command goes on from the last checkpoint.
#
# Options
#   --devices N, --nodes N      devices of each machine, and machines
#   --host NAME:PORT            where the processes meet
#   --conf FILE                 configuration; every option of it can be given in --options
#   --options "--a.b 1 …"       overrides, such as "--training.accelerator cpu"
#   --exp_dir DIR               results; of several machines, one that all of them see
#   --python_path PYTHON        default: one that can import asteroid_ucr; made if there is none

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

devices=1
nodes=1
host=localhost:29400
conf=local/conf.yml
options=
exp_dir=exp/train_ucr_devices
python_path=

. utils/parse_options.sh

python=$(bash ../../env.sh "$python_path")
# shellcheck disable=SC2206  # options are words
common=(--config "$conf" $options)

# Once for each machine: a cache is on a local disk.
"$python" -m asteroid_ucr cache ucr "${common[@]}"
exec "$python" -m torch.distributed.run --nnodes "$nodes" --nproc-per-node "$devices" \
  --rdzv-backend c10d --rdzv-endpoint "$host" -m asteroid_ucr train ucr "${common[@]}" \
  --training.devices "$devices" --training.num_nodes "$nodes" --training.strategy ddp \
  --exp_dir "$exp_dir"
