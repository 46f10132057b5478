#!/usr/bin/env bash
# Which latents serve separation? The paper's experiment in two spaces, with the same networks and
# training: codecs × compositions × numbers of sources, and the denoiser with and without α.
#
#   bash egs/slakh_ucr/experiments/codecs.sh                     all of it, then docs/results_codecs.md
#   bash egs/slakh_ucr/experiments/codecs.sh --conf gpu.yml …    options go to every run.sh
#
# Runs that are done are kept: what is missing is resumed or made. CODECS="mel encodec_24khz" chooses
# others than the two that need no download, ONLY="mel_mean_2 …" some of the runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(bash ../../env.sh)

experiment() { # NAME, then options of the recipe
  local name=$1
  shift
  local exp=exp/train_ucr_codecs_$name
  [[ -z "${ONLY:-}" || " $ONLY " == *" $name "* ]] || return 0
  [ -f "$exp/final_metrics.json" ] && return 0
  echo "== $name"
  bash run.sh --stage 1 --stop_stage 3 --conf experiments/codecs.yml --tag "codecs_$name" \
    --options "$*" "${extra[@]}"
}

extra=("$@")
two="--data.sources [drums,bass]" three="--data.sources [drums,bass,piano]"
for codec in ${CODECS:-mel mdct}; do
  experiment "${codec}_mean_2" --codec.name $codec $two --model.composition mean
  experiment "${codec}_mean_2_no_alpha" --codec.name $codec $two --model.composition mean \
    --model.time_embedding false
  experiment "${codec}_sum_2" --codec.name $codec $two --model.composition sum
  experiment "${codec}_mean_3" --codec.name $codec $three --model.composition mean
  experiment "${codec}_sum_3" --codec.name $codec $three --model.composition sum
done
