#!/usr/bin/env bash
# What the bundled models generate, measured: docs/generation_results.md.
#
#   bash egs/slakh_ucr/models.sh --stop_stage 1 …       the songs and the latents of their mixtures
#   bash egs/slakh_ucr/experiments/generation.sh
#
# Options go to every evaluation. Those that are done are kept. ONLY="drums-bass …" chooses models.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(bash ../../env.sh)
ucr() { "$python" -m asteroid_ucr "$@"; }
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

for model in ${ONLY:-drums-bass drums-piano bass-piano drums-piano-bass}; do
  exp=exp/generation/$model
  [ -f "$exp/generation.json" ] && continue
  echo "== $model"
  # shellcheck disable=SC2086  # names are words
  ucr select "$model" --sources ${model//-/ } -o "$exp"
  # The number of steps is chosen by one model.
  if [ "$model" = drums-bass ]; then curve="[5, 25, 50]"; else curve="[]"; fi
  ucr evaluate-generation --config local/bundled.yml --data.sources "[${model//-/, }]" \
    --prior.versions 1 --generation.curve "$curve" --exp_dir "$exp" "$@"
done
"$python" experiments/generation_table.py
