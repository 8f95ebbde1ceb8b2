#!/bin/sh
# What one GPU makes of trimask, in one command and under nine minutes: see benchmarks/gpu/README.md.
#   benchmarks/gpu.sh [--out FILE.json] [--sections ceilings pilot …] [--device cpu --tiny]
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" "$root/benchmarks/gpu" "$@"
