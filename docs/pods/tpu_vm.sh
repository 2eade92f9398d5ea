#!/usr/bin/env bash
# A TPU slice of Compute Engine: make it, install this checkout on all hosts, train.
# PROJECT, ZONE, BUCKET and QUESTIONS (gs://...) must be set; the rest may be.
# The same command goes on after a kill or a preemption, also on a new slice.
set -euo pipefail
: "${PROJECT:?}" "${ZONE:?}" "${BUCKET:?}" "${QUESTIONS:?}"
NAME=${NAME:-fr}
TYPE=${TYPE:-v5litepod-16}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
where=("$NAME" "--project=$PROJECT" "--zone=$ZONE")

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "${where[@]}" --worker=all --command="$1"
}

gcloud compute tpus tpu-vm describe "${where[@]}" --format='value(state)' ||
  gcloud compute tpus tpu-vm create "${where[@]}" --spot \
    --accelerator-type="$TYPE" --version="$RUNTIME" --scopes=cloud-platform

git archive --format=tar.gz --output=fr.tar.gz HEAD
gcloud compute tpus tpu-vm scp fr.tar.gz "$NAME:" "${where[@]:1}" --worker=all
on_all_hosts "mkdir -p fr && tar xzf fr.tar.gz -C fr && cd fr \
  && python3 -m pip install -q --user uv \
  && ~/.local/bin/uv venv -q --allow-existing --python=3.12 .venv \
  && ~/.local/bin/uv pip install -q -e '.[tpu,gcs]'"

# A v5e-16 has four hosts of four chips; the chips of a host share a sampler.
on_all_hosts "cd fr && .venv/bin/python scripts/train.py \
  --config=configs/qwen3_pcs_pod.py --config.task.path=$QUESTIONS \
  --config.sampling.model_axis=4 --config.sampling.slots=64 \
  --workdir=gs://$BUCKET/$NAME --processes=auto"
