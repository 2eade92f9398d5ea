#!/usr/bin/env bash
# The job of jobset.yaml by XPK, on a cluster that `xpk cluster create` has made.
# PROJECT, ZONE, CLUSTER, IMAGE, BUCKET and QUESTIONS (gs://...) must be set.
set -euo pipefail
: "${PROJECT:?}" "${ZONE:?}" "${CLUSTER:?}" "${IMAGE:?}" "${BUCKET:?}" "${QUESTIONS:?}"
NAME=${NAME:-fr}

xpk workload create --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" \
  --workload="$NAME" --tpu-type=v5litepod-16 --num-slices=1 --max-restarts=20 \
  --docker-image="$IMAGE" \
  --command="cd /fr && python scripts/train.py \
    --config=configs/qwen3_pcs_pod.py --config.task.path=$QUESTIONS \
    --config.sampling.model_axis=4 --config.sampling.slots=64 \
    --workdir=gs://$BUCKET/$NAME --processes=auto"
