#!/usr/bin/env bash
# What labels buy: baselines trained on the songs of the bundled models, scored beside these.
#
#   bash egs/slakh_ucr/models.sh --stop_stage 1 …         songs, latents and solos
#   bash egs/slakh_ucr/experiments/baselines.sh           caches, trainings, scores, docs/results.md
#
# CLIPS=DIR scores CLIP/{mix,drums,…}.wav besides. ONLY="drums-bass …" chooses models. Trainings and
# scores that are done are kept.
set -euo pipefail
clips=${CLIPS:+$(realpath "$CLIPS")}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(bash ../../env.sh)
ucr() { "$python" -m asteroid_ucr "$@"; }
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
only=${ONLY:-drums-bass drums-piano bass-piano drums-piano-bass}

train() { # MODEL KIND CONFIG STEPS: as many steps as take a core about nine minutes
  local exp=exp/baselines/$1/$2
  [ -f "$exp/best_model.pth" ] && return 0
  echo "== $exp"
  ucr train "$2" --config "$3" --data.root data/bundled --data.solos data/bundled_solos0 \
    --data.sources "[${1//-/, }]" --data.workers 0 --training.steps "$4" --exp_dir "$exp"
}

score() { # MODEL NAME, then options of asteroid-ucr evaluate
  local model=$1 out=exp/baselines/scores/$2
  shift 2
  scored+=("$out")
  [ -f "$out/final_metrics.json" ] && return 0
  echo "== $out"
  ucr evaluate "$model" --compare exp/baselines/"$model"/*/best_model.pth \
    --steps 1 "$@" -o "$out"
}

for model in $only; do
  train "$model" ucr local/bundled.yml 740
  train "$model" convtasnet local/convtasnet.yml 630
  train "$model" hdemucs local/hdemucs.yml 950
  train "$model" convtasnet_mixit local/convtasnet_mixit.yml 540
  train "$model" twin local/bundled.yml 680
done
# On validation songs, the first also assigns the outputs of MixIT to sources.
scored=()
for model in $only; do score "$model" "$model" --slakh_dir data/minislakh --max_clips 18; done
[ -z "$clips" ] ||
  for model in $only; do score "$model" "$model-slakh" --clips "$clips" --estimates _paper; done
[ -f exp/baselines/benchmark.json ] ||
  ucr benchmark --model drums-bass --repeats 2 --lengths 10 60 \
    -o exp/baselines/benchmark.json
ucr results "${scored[@]}" --benchmark exp/baselines/benchmark.json \
  -o ../../docs/results.md
