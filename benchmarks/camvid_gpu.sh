#!/usr/bin/env bash
# CamVid's recipe on one GPU within so many seconds: a few epochs give the rate, and the rate the number of epochs, at
# most 1,000, so that the learning rate ends where it should.
#
#   bash benchmarks/camvid_gpu.sh ROOT SECONDS [OVERRIDE ...]
#
# Its strong augmentation has no form on the GPU, so that frames are read by workers: `augment=paper` keeps them in its memory.
#
# With EPOCHS=N it is N epochs, and none is trained to find the rate: on a bare machine that takes a minute.
#
# ROOT holds train/, trainannot/, val/, valannot/ (the test set is not needed). EXPERIMENT=camvid_best is trained. Where the
# fast variant fails, it is tried without CUDA graphs, and then with the frames read by workers. What comes out is copied to
# $OUT (outputs/camvid_gpu): run.json, metrics.csv, config.yaml, train.log, rate.json, and last.ckpt in parts of 15 MB, which
# `cat last.ckpt.* > last.ckpt` joins; also where the time ends first, when the run can go on from it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$1 seconds=$2
shift 2
python=${PYTHON:-python}
out=${OUT:-outputs/camvid_gpu}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
export PYTHONPATH="$PWD/src" PYTHONUNBUFFERED=1
settings=(experiment="${EXPERIMENT:-camvid_best}" data.root="$root" data.store="$work/store" data.evaluate_test=false
  logger=csv pictures=0 trainer.accelerator=gpu trainer.save_every_epochs=50 trainer.log_every_n_steps=50 "$@")
variants=("" "trainer.cuda_graph=false" "trainer.cuda_graph=false data.device=cpu optimizer.fused=auto")

probe() { # OVERRIDES: the seconds of an epoch, into rate.json
  timeout -k 5 110 "$python" benchmarks/gpu_resident.py --one "$work/epochs.json" --settings "${settings[@]}" $1 \
    trainer.max_epochs=5 paths.run_dir="$work/probe-$RANDOM" >> "$out/train.log" 2>&1 || return 1
  "$python" - "$work/epochs.json" "$1" > "$out/rate.json" << 'END'
import json, sys
epochs = json.load(open(sys.argv[1]))[1:]
spent, frames = epochs[-1][0] - epochs[0][0], sum(count for *_, count in epochs)
print(json.dumps({"overrides": sys.argv[2], "seconds_per_epoch": spent / (len(epochs) - 1),
                  "images_per_second": frames / sum(end - begin for begin, end, _ in epochs)}))
END
}

keep() {
  cp "$work"/run/run.json "$work"/run/metrics.csv "$out"/ 2> /dev/null
  cp "$work"/run/.hydra/config.yaml "$out"/ 2> /dev/null
  rm -f "$out"/last.ckpt.*
  [ -e "$work/run/checkpoints/last.ckpt" ] && split -b 15000000 "$work/run/checkpoints/last.ckpt" "$out/last.ckpt."
}

for variant in "${variants[@]}"; do
  epochs=${EPOCHS:-}
  [ -z "$variant" ] || epochs=
  if [ -z "$epochs" ]; then
    probe "$variant" || { echo "failed: ${variant:-the fast variant}"; tail -n 5 "$out/train.log"; continue; }
    cat "$out/rate.json"
    epochs=$("$python" -c "import json
rate = json.load(open('$out/rate.json'))['seconds_per_epoch']
print(max(2, min(1000, int(($seconds - $SECONDS - 25) / (1.03 * rate)))))")
  fi
  left=$((seconds - SECONDS))
  echo "$epochs epochs in the $left seconds that are left"
  begun=$SECONDS
  timeout -s INT -k 30 "$((left > 10 ? left : 10))" "$python" src/train.py "${settings[@]}" $variant trainer.max_epochs="$epochs" \
    paths.run_dir="$work/run" >> "$out/train.log" 2>&1
  status=$?
  keep
  tail -n 4 "$out/train.log"
  # One that failed in its first minute and a half gives the next variant its time; any other is what there is.
  [ "$status" -ne 0 ] && [ $((SECONDS - begun)) -lt 90 ] && [ "$left" -gt 100 ] && { rm -rf "$work/run"; continue; }
  exit "$status"
done
exit 1
