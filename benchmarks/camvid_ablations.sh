#!/usr/bin/env bash
# The CamVid ablations (skip, activation, ImageNet-sample init), three seeds each, 200 epochs: made for one GPU.
#
#   bash benchmarks/camvid_ablations.sh CAMVID_DIR IMAGENET_SAMPLE_DIR [EPOCHS]
#
# The three seeds train side by side. Called again it goes on with what is not finished; the last step writes
# results/camvid_ablations.json, .md and _page.png. Small records and pictures are copied to $OUT where that is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
camvid=$1 imagenet=$2 epochs=${3:-200}
python=${PYTHON:-python}
out=outputs/camvid_ablations
common=(experiment=camvid "data.root=$camvid" "trainer.max_epochs=$epochs" logger=csv "paths.output_dir=$out")

if ! compgen -G "$out/imagenet/*/checkpoints/best.ckpt" > /dev/null; then
  "$python" src/train.py experiment=imagenet_pretrain "data.root=$imagenet" 'data.crop_size=[96,96]' data.batch_size=50 \
    trainer.max_epochs=100 trainer.check_val_every_n_epoch=5 logger=csv "paths.output_dir=$out"
fi

pids=()
for seed in 0 1 2; do
  (
    "$python" src/train.py -m "${common[@]}" "seed=$seed" skip=keep,zero
    "$python" src/train.py -m "${common[@]}" "seed=$seed" activation=relu6
    "$python" src/train.py -m "${common[@]}" "seed=$seed" pretrain=imagenet
  ) > "$out/seed$seed.log" 2>&1 &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=1; done
tail -n 4 "$out"/seed*.log
[ "$status" = 0 ] || exit "$status"

for folder in "$out"/camvid/*/; do
  for skip in keep zero; do
    "$python" src/eval.py "checkpoint=${folder}checkpoints/best.ckpt" split=test "skip=$skip" "paths.output_dir=$out"
  done
done
PYTHONPATH=src "$python" benchmarks/publish_comparison.py camvid_ablations "$out"
if [ -n "${OUT:-}" ]; then cp results/camvid_ablations* "$OUT"/; fi
