#!/usr/bin/env bash
# Trains the models that come with the package, from songs to cards, without a single stem.
#
#   bash egs/slakh_ucr/models.sh --soundfonts "FluidR3_GM.sf2 MuseScore_General_Full.sf3"
#
# Stages
#   0  composes and renders songs; each stem draws one of the sounds
#   1  caches the mixtures, and finds solos in them by taggers
#   2  trains a first model on these
#   3  in rounds, finds better solos with the latest model's help, separates all mixtures by it, and
#      trains the next model on both
#   4  trains a renderer and a masking prior, and selects the models of two sources
#   5  scores them on songs of another seed, and writes them with their cards
#
# Options
#   --stage N, --stop_stage M   first and last stage to run
#   --soundfonts "FILES"        and folders of Hydrogen drum kits, besides pretty_midi's
#   --songs N, --seconds N      of the training collection
#   --options "--a.b 1 …"       overrides of local/bundled.yml, for stages 2 to 4
#   --first_steps N             steps of the first model
#   --rounds N                  of stage 3
#   --clips DIR                 CLIP/{mix,drums,…}.wav to score besides
#   --commit ID                 that trained them, for the cards (default: the current one)
#   --out DIR                   where to write the models (default: exp/bundled/models)
#   --python_path PYTHON        default: one that can import asteroid_ucr; made if there is none
# Interrupted, it goes on where it stopped.

set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

stage=0
stop_stage=5
soundfonts=
songs=1000
seconds=30
options=
first_steps=2000
rounds=3
clips=
commit=
out=exp/bundled/models
python_path=

. utils/parse_options.sh

absolute() { case "$1" in "" | /*) echo "$1" ;; *) echo "$caller/$1" ;; esac; }
clips=$(absolute "$clips")
python=$(bash ../../env.sh "$python_path")
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
ucr() { "$python" -m asteroid_ucr "$@"; }
run() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ] && echo "Stage $1: $2"; }

config=(--config local/bundled.yml)
exp=exp/bundled
models=(drums-bass drums-piano bass-piano drums-piano-bass)
# The sources of a model, as the value of an option.
sources() { echo "[${1//-/, }]"; }

if run 0 "songs"; then
  fonts=("$("$python" -c 'from asteroid_ucr.minislakh.sounds import default_soundfont as f; print(f())')")
  for font in $soundfonts; do fonts+=("$(absolute "$font")"); done
  ucr minislakh --out data/bundled --seed 1 --songs "$songs" \
    --seconds "$seconds" --varied --soundfont "${fonts[@]}"
fi

if run 1 "mixtures and first solos"; then
  for model in "${models[@]}"; do
    ucr cache ucr "${config[@]}" --data.sources "$(sources "$model")"
  done
  [ -d data/bundled_solos0 ] ||
    ucr solos "${config[@]}" --data.solos data/bundled_solos0
fi

if run 2 "first model"; then
  # shellcheck disable=SC2086  # options are words
  ucr train ucr "${config[@]}" $options --data.solos data/bundled_solos0 \
    --training.steps "$first_steps" --exp_dir "$exp/first"
fi

if run 3 "rounds"; then
  teacher=$exp/first
  for round in $(seq "$rounds"); do
    found=(--data.solos "data/bundled_solos$round" --data.estimates "data/bundled_estimates$round")
    [ -d "data/bundled_solos$round" ] || ucr solos "${config[@]}" "${found[@]}" --teacher "$teacher"
    ucr estimates "${config[@]}" "${found[@]}" --teacher "$teacher"
    # shellcheck disable=SC2086
    ucr train ucr "${config[@]}" "${found[@]}" --training.init "$teacher" $options \
      --exp_dir "$exp/round$round"
    teacher=$exp/round$round
  done
fi

if run 4 "renderer and prior"; then
  whole=drums-piano-bass
  found=(--data.solos "data/bundled_solos$rounds" --data.estimates "data/bundled_estimates$rounds")
  [ -d "$exp/$whole" ] ||
    ucr select "$exp/round$rounds" --sources ${whole//-/ } -o "$exp/$whole"
  # shellcheck disable=SC2086
  ucr train-renderer "${config[@]}" "${found[@]}" $options --exp_dir "$exp/$whole"
  # shellcheck disable=SC2086
  ucr train-prior "${config[@]}" $options --exp_dir "$exp/$whole"
  for model in "${models[@]}"; do
    # shellcheck disable=SC2086
    [ -d "$exp/$model" ] || ucr select "$exp/$whole" --sources ${model//-/ } -o "$exp/$model"
  done
fi

if run 5 "scores and cards"; then
  ucr minislakh --out data/minislakh
  ucr cards "${config[@]}" --exp_dir "$exp" --models "${models[@]}" \
    --trained "round$rounds" --test_dir data/minislakh --out "$out" \
    --command "bash egs/slakh_ucr/models.sh" ${commit:+--commit "$commit"} \
    ${clips:+--clips "$clips"}
fi
