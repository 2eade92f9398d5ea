#!/usr/bin/env bash
# Make the environments of the benchmark's peers, one each, and print the flags that python -m benchmarks wants.
#
#     benchmarks/make_peers.sh FOLDER [PYTHON]
#
# An environment that is there already is kept. llama.cpp is compiled for this machine, which takes minutes; for a
# GPU set CMAKE_ARGS as its own page says (CUDA: -DGGML_CUDA=on).
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
folder=$(mkdir -p "$1" && cd "$1" && pwd)
python=${2:-python3}

make() {
  local name=$1 home="$folder/$1"
  shift
  if [ ! -e "$home/done" ]; then
    rm -rf "$home"
    "$python" -m venv "$home" >&2
    "$home/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
    touch "$home/done"
  fi
  echo "--peer=$name:$home/bin/python"
}

make transformers torch==2.13.0 transformers accelerate
make llama_cpp llama-cpp-python numpy
make tunix google-tunix
make trl torch==2.13.0 trl
