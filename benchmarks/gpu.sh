#!/usr/bin/env bash
# What is to be shown on a GPU, made for a machine that is lent for minutes and has little installed beside torch.
#
#   bash benchmarks/gpu.sh [PART ...]
#
# Parts, in the order in which they run without a name, each with its own limit in seconds:
#   tests      the programs against torch, and every command on tiny data
#   inference  ours and eager torch at 1024x2048 and 512x1024, to labels; whether launches overlap, each form of a layer
#   loss       the fused loss of three heads, forward and backward, against eager torch
#   step       a training step with torch's layers and with ours: its parts, and the kernels that its time goes to
#   norm       each BatchNorm of a step with its activation, beside torch's
#   depthwise  each depthwise convolution of a step, beside torch's
#   training   images a second at 1024x2048, from the GPU's memory, with our layers, by threads; where a step's time goes
#   resident   frames that lie in the GPU's memory, and steps that are replayed from a CUDA graph
#   compiled   the tests that compile with torch.compile: our CUDA graphs beside its own
#   compare    inference once more, with torch.compile in the same run
# and, by name alone:
#   throughput frames a second by batch, and by two streams
#   miou       what half precision costs the shipped network of the drawn streets
#   choices    what is the quickest on this GPU, kept for every later run on it
#   layers     each depthwise convolution with its 1x1: in one launch and in two, each form and how the work is shared out
#   yolo       YOLO26n-sem, where `ultralytics` (AGPL-3.0) is installed
#   tiles      the fused step alone: labels and probabilities with each shape of tile
#   peers      the paper's peers and every compiled variant at 1024x2048
#
# CHECKPOINT=FILE takes a trained Fast-SCNN instead of random weights, LIMIT=N gives every part so many seconds, and
# DRY_RUN=1 tries every part on the CPU. Wheels in .gpu/ are installed first where Hydra is missing. Results are
# written as they come: results/gpu_*.json, copied to $OUT where that is set.
# Whole trainings on a GPU have their own script: benchmarks/camvid_ablations.sh.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-$(command -v python3 || command -v python)}
export PYTHONPATH=$PWD/src:$PWD/tests/programs${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 NO_ALBUMENTATIONS_UPDATE=1
results=results
flags=()
if [ -n "${DRY_RUN:-}" ]; then
  results=$(mktemp -d)
  flags=(--dry-run)
fi
weights=()
[ -z "${CHECKPOINT:-}" ] || weights=(--checkpoint "$CHECKPOINT")

seconds_of() {
  case $1 in
    loss | throughput | miou) echo 45 ;;
    step) echo 75 ;;
    tests | norm | depthwise | resident | tiles) echo 90 ;;
    compiled | training) echo 110 ;;
    inference | yolo | layers | choices) echo 150 ;;
    compare) echo 170 ;;
    peers) echo 235 ;;
    *) return 1 ;;
  esac
}

# limited SECONDS COMMAND ...: what is left at its limit gets ten seconds to end.
limited() { timeout --kill-after=10 "$@"; }

# run_tests SECONDS EXPRESSION WORKERS FILE ...
run_tests() {
  OMP_NUM_THREADS=1 limited "$1" "$python" -m pytest -q -p no:benchmark -p failures_at_once --numprocesses "$3" --dist loadgroup \
    --durations=12 -k "$2" "${@:4}"
}

# run_part NAME SECONDS
run_part() {
  local unit=(tests/unit/*/test_*_cuda.py)
  local inference=(limited "$2" "$python" benchmarks/gpu_inference.py "${flags[@]}" "${weights[@]}" --seconds $(($2 - 40)))
  [ ! -f "$results/gpu_layers.json" ] || inference+=(--layers "$results/gpu_layers.json")
  local two_sizes=(--sizes 1024x2048 512x1024)
  [ -z "${DRY_RUN:-}" ] || two_sizes=(--rounds 1)
  case $1 in
    tests)
      run_tests "$2" "not compile and not interpreter" "${WORKERS:-12}" "${unit[@]}" tests/integration/test_gpu_commands.py ;;
    compiled) run_tests "$2" "torch_compile" 3 "${unit[@]}" ;;
    inference) "${inference[@]}" "${two_sizes[@]}" --peers --few --output "$results/gpu_sizes.json" ;;
    compare) "${inference[@]}" "${two_sizes[@]}" --peers --output "$results/gpu_compare.json" ;;
    peers) "${inference[@]}" "${two_sizes[@]:0:2}" --output "$results/gpu_inference.json" ;;
    throughput)
      limited "$2" "$python" benchmarks/gpu_throughput.py "${flags[@]}" "${weights[@]}" ${DRY_RUN:+--batches 1 2} \
        --output "$results/gpu_throughput.json" ;;
    choices)
      limited "$2" "$python" benchmarks/gpu_choices.py "${flags[@]}" ${DRY_RUN:+--rounds 1} \
        --output "$results/gpu_choices.json" ;;
    layers) limited "$2" "$python" benchmarks/gpu_layers.py "${flags[@]}" --output "$results/gpu_layers.json" ;;
    yolo)
      "$python" -c 'import ultralytics' 2> /dev/null || { echo "ultralytics is not installed."; return; }
      limited "$2" "$python" benchmarks/yolo26_semantic.py ${DRY_RUN:+--sizes 64x128 --rounds 1} \
        --device "$([ -z "${DRY_RUN:-}" ] && echo cuda || echo cpu)" --output "$results/gpu_yolo26.json" ;;
    miou)
      limited "$2" "$python" benchmarks/gpu_miou.py "${flags[@]}" ${DRY_RUN:+--frames 2} \
        --output "$results/gpu_miou.json" ;;
    tiles) limited "$2" "$python" benchmarks/gpu_tiles.py "${flags[@]}" --output "$results/gpu_tiles.json" ;;
    loss)
      limited "$2" "$python" benchmarks/gpu_loss.py "${flags[@]}" ${DRY_RUN:+--rounds 1 --batch 2} \
        --output "$results/gpu_loss.json" ;;
    step)
      limited "$2" "$python" benchmarks/gpu_step.py "${flags[@]}" ${DRY_RUN:+--rounds 1} \
        --output "$results/gpu_step.json" ;;
    norm | depthwise)
      limited "$2" "$python" benchmarks/gpu_training_layers.py "$1" "${flags[@]}" --seconds $(($2 - 35)) \
        ${DRY_RUN:+--size 32x64 --batch 2} --output "$results/gpu_$1.json" ;;
    training)
      limited "$2" "$python" benchmarks/gpu_training.py "${flags[@]}" --seconds $(($2 - 5)) --rounds 1 \
        --variants ours "ours, fused norm" "ours, fused norm, depthwise" "ours, threads" "ours, processes" \
        ${DRY_RUN:+--count 6 --batch 2 --steps 2 --workers 1 --sizes 64x128} --output "$results/gpu_training.json" ;;
    resident)
      [ -f benchmarks/gpu_resident.py ] || { echo "There is no benchmarks/gpu_resident.py."; return; }
      limited "$2" "$python" benchmarks/gpu_resident.py "${flags[@]}" --seconds $(($2 - 5)) \
        --output "$results/gpu_resident.json" ;;
  esac
}

parts=${*:-tests inference loss step norm depthwise training resident compiled compare}
for part in $parts; do
  seconds_of "$part" > /dev/null || { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; echo "$part is no part." >&2; exit 2; }
done
if ls .gpu/*.whl > /dev/null 2>&1 && ! "$python" -c 'import hydra' 2> /dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir .gpu/*.whl || exit 1
fi
status=0
for part in $parts; do
  begun=$SECONDS
  echo "== $part"
  run_part "$part" "${LIMIT:-$(seconds_of "$part")}"
  code=$?
  [ "$code" = 0 ] || status=1
  echo "== $part: exit code $code after $((SECONDS - begun)) s"
  if [ -n "${OUT:-}" ]; then cp "$results"/gpu_* "$OUT"/ 2> /dev/null || true; fi
done
exit "$status"
