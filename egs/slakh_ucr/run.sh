#!/usr/bin/env bash
# Unsupervised composable representations on Slakh2100, or on mini-Slakh where there is no Slakh.
#
#   bash egs/slakh_ucr/run.sh --stage 0                            all of it, on mini-Slakh
#   bash egs/slakh_ucr/run.sh --stage 0 --slakh_dir /data/slakh2100_flac_redux \
#     --conf local/reference.yml --tag redux                       the paper's configuration
#
# Stages
#   0  data: checks --slakh_dir, or builds mini-Slakh
#   1  caches the codec's latents of the mixtures, or for a baseline the stems
#   2  trains the decomposition or a baseline, once for each of --seeds
#   3  evaluates it beside floors, classical methods, trained baselines and ceilings
#   4  trains the masking prior of the best model's component latents
#   5  generates with it, and evaluates what it generates
#   6  writes the report and the publishable package
#
# Options
#   --stage N, --stop_stage M   first and last stage to run
#   --slakh_dir DIR             a Slakh2100 (redux, orig, split2) or BabySlakh tree
#   --audio_dir DIR             any folder of audio; without stems, stages 0 to 4 can be run, and 0 to
#                               3 are by default
#   --stems DIR                 where stage 3 writes the stems of all songs of such a folder (default:
#                               exp/train_ucr_TAG/stems); none: it writes no stems
#   --songs N, --seconds N      size of mini-Slakh; --midi_dir and --soundfont render your own
#   --model "NAMES"             models to cache for and train, with local/NAME.yml: ucr; solos, which
#                               also learns from solos that it finds; or a baseline: twin,
#                               convtasnet, hdemucs, convtasnet_mixit; default: ucr, and
#                               solos too where songs are composed
#   --compare "NAMES"           models that stage 3 scores beside ours; auto: those trained with this
#                               --tag, and the bundled one
#   --pretrained NAME           published Demucs weights to score beside them, such as htdemucs
#   --conf FILE                 configuration of the only --model, ucr by default;
#                               every option of it can be given in --options
#   --options "--a.b 1 …"       overrides, such as "--training.steps 500 --model.latent_dim 2"
#   --tag NAME                  results go to exp/train_ucr_NAME (train_convtasnet_NAME, …)
#   --seeds "0 1"               training runs to make and evaluate
#   --resume auto|none          go on from the last checkpoint, or refuse to
#   --python_path PYTHON        default: one that can import asteroid_ucr; made if there is none

set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

stage=0
stop_stage=
slakh_dir=
audio_dir=
stems=
data_dir=data
songs=60
seconds=30
midi_dir=
soundfont=
conf=
options=
tag=mini
seeds="0 1"
resume=auto
python_path=
model=
compare=auto
pretrained=

. utils/parse_options.sh

fail() { echo "run.sh: error: $1" >&2; exit 2; }
# Paths are the caller's, but the recipe works in its own folder.
absolute() { case "$1" in "" | /*) echo "$1" ;; *) echo "$caller/$1" ;; esac; }
[ -n "$stop_stage" ] || stop_stage=$([ -n "$audio_dir" ] && echo 3 || echo 6)
[[ "$stage" =~ ^[0-6]$ && "$stop_stage" =~ ^[0-6]$ ]] || fail "--stage and --stop_stage go from 0 to 6."
slakh_dir=$(absolute "${slakh_dir:-$audio_dir}") midi_dir=$(absolute "$midi_dir") soundfont=$(absolute "$soundfont")
[ "$stems" = none ] || stems=$(absolute "$stems")
[ -n "$model" ] || [ -n "$conf$slakh_dir$midi_dir" ] || model="ucr solos"
model=${model:-ucr}
[ -z "$conf" ] || [ -f "$conf" ] || conf=$(absolute "$conf")
[ -z "$conf" ] || [ -f "$conf" ] || fail "--conf $conf does not exist."

python=$(bash ../../env.sh "$python_path")
# Threads that spin while they wait for each other are many times slower when anything else runs.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
ucr() { "$python" -m asteroid_ucr "$@"; }
run() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ] && echo "Stage $1: $2"; }

root=${slakh_dir:-$data_dir/minislakh}
solos=$data_dir/solos/$(basename "$root")

configure() { # MODEL: its kind, folder and options
  kind=$1 exp=exp/train_$1_$tag
  [ "$kind" != solos ] || kind=ucr
  local file=${conf:-local/$1.yml}
  [ -f "$file" ] || file=local/conf.yml
  # shellcheck disable=SC2206  # options are words
  common=(--config "$file" --data.root "$root" --data.cache "$data_dir/cache" --data.solos "$solos" $options)
}

for name in $model; do
  configure "$name"
  [ "$kind" = ucr ] || ucr train "$kind" --help >/dev/null  # refuses an unknown name at once
done

if run 0 "data"; then
  if [ -n "$slakh_dir" ]; then
    ucr doctor "$slakh_dir" --no_listen
  else
    ucr minislakh --out "$root" --songs "$songs" --seconds "$seconds" \
      ${midi_dir:+--midi_dir "$midi_dir"} ${soundfont:+--soundfont "$soundfont"}
  fi
fi

if run 1 "cache"; then
  for name in $model; do
    configure "$name"
    ucr cache "$kind" "${common[@]}"
    [ "$name" != solos ] || [ -d "$solos" ] || ucr solos "${common[@]}"
  done
fi

if run 2 "training"; then
  for name in $model; do
    configure "$name"
    for seed in $seeds; do
      ucr train "$kind" "${common[@]}" --training.seed "$seed" --exp_dir "$exp/seed$seed" \
        --resume "$resume"
    done
  done
fi

if [[ " $model " != *" ucr "* ]]; then
  [ "$stop_stage" -lt 3 ] || echo "run.sh --stage 3 --tag $tag scores $exp beside the others."
  exit 0
fi
configure ucr

if run 3 "evaluation"; then
  [ -z "$audio_dir" ] || stems=${stems:-$exp/stems}
  [ "$stems" != none ] || stems=
  # shellcheck disable=SC2086  # names are words
  ucr evaluate-runs "${common[@]}" --exp_dir "$exp" --runs $seeds --compare $compare \
    ${pretrained:+--pretrained "$pretrained"} ${stems:+--stems "$stems"}
fi

if run 4 "prior"; then
  ucr train-prior "${common[@]}" --exp_dir "$exp" --resume "$resume"
fi

if run 5 "generation"; then
  ucr evaluate-generation "${common[@]}" --exp_dir "$exp"
fi

if run 6 "report and package"; then
  ucr report --exp_dir "$exp"
fi
