#!/usr/bin/env bash
# What is to be shown on a GPU, made for a machine that is lent for half an hour: steps of at most ten minutes.
#
#   bash benchmarks/gpu.sh [CHECKPOINT] [STEP ...]
#
# Steps: tests (the programs against torch), inference (ours and eager torch at three sizes), peers (all in one
# interleaved run at 1024x2048, with the paper's peers and the compiled variants), training (frames a second from the
# store, against eager torch fed with PNG files). All of them without a name. Also resident (small frames that lie on
# the GPU, and steps from a CUDA graph; a minute).
# CHECKPOINT is a trained Fast-SCNN, or - for random weights. Results are saved as they come: results/gpu_*.json, copied
# to $OUT where that is set. Whole trainings on a GPU have their own script: benchmarks/camvid_ablations.sh.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkpoint=${1:--}
shift || true
steps=${*:-tests inference training peers}
python=${PYTHON:-python}
limit=${LIMIT:-560}
export PYTHONPATH=src PYTHONUNBUFFERED=1
weights=()
[ "$checkpoint" = - ] || weights=(--checkpoint "$checkpoint")
status=0

keep() { if [ -n "${OUT:-}" ]; then cp results/gpu_* "$OUT"/ 2> /dev/null || true; fi; }

for step in $steps; do
  case $step in
    tests)
      timeout "$limit" "$python" -m pytest -q -n 0 -x tests/unit/kernels \
        || status=1 ;;
    inference)
      timeout "$limit" "$python" benchmarks/gpu_inference.py "${weights[@]}" --seconds $((limit - 120)) --peers \
        --output results/gpu_sizes.json || status=1 ;;
    peers)
      timeout "$limit" "$python" benchmarks/gpu_inference.py "${weights[@]}" --seconds $((limit - 120)) \
        --sizes 1024x2048 || status=1 ;;
    training)
      timeout "$limit" "$python" benchmarks/gpu_training.py --seconds $((limit - 30)) || status=1 ;;
    resident)
      timeout "$limit" "$python" benchmarks/gpu_resident.py --seconds "$((limit < 70 ? limit - 10 : 60))" || status=1 ;;
    *)
      echo "$step is no step: tests, inference, training, peers, resident" >&2; status=2 ;;
  esac
  keep
done
exit "$status"
