#!/usr/bin/env bash
# What makes the bundled models separate? Their training, shortened, with one thing changed at a time.
#
#   bash egs/slakh_ucr/models.sh --stop_stage 1 …      songs, latents and solos
#   bash egs/slakh_ucr/experiments/solos.sh            the runs, then docs/results_solos.md
#
# Options go to every training. Runs that are done are kept. ONLY="full plain …" chooses some.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(bash ../../env.sh)
ucr() { "$python" -m asteroid_ucr "$@"; }
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
extra=("$@")

experiment() { # NAME, then options of `asteroid-ucr train`
  local name=$1
  shift
  [[ -z "${ONLY:-}" || " $ONLY " == *" $name "* ]] || return 0
  [ -f "exp/solos/$name/best_model.pth" ] && return 0
  echo "== $name"
  ucr train ucr --config local/bundled.yml --data.solos data/bundled_solos0 --data.workers 0 \
    --training.steps 400 --training.epoch_steps 400 "$@" ${extra[@]+"${extra[@]}"} \
    --exp_dir "exp/solos/$name"
}

[ -d data/bundled_stems ] ||
  ucr solos --config local/bundled.yml --data.solos data/bundled_stems --from_stems

experiment full
experiment plain_power_sum --training.solo_share 0 --model.alpha_start 0
experiment plain_mean --training.solo_share 0 --model.composition mean --model.alpha_start 0
experiment unet1d --model.denoiser unet1d --model.denoiser_widths [128,256,256,512]
experiment stems --data.solos data/bundled_stems
experiment full_seed1 --training.seed 1
experiment no_mask_loss --training.mask_weight 0
experiment from_noise --model.alpha_start 0
experiment half_solos --training.solo_share 0.5
experiment latent_1 --model.latent_dim 1
experiment stems_seed1 --data.solos data/bundled_stems --training.seed 1
"$python" experiments/solos_table.py
