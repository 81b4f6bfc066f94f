#!/usr/bin/env bash
# Searches for the settings that suit your own photos, then runs with the winner.
#   examples/tune_on_photos.sh PHOTOS OUT [OPTIONS OF TUNE]
# PHOTOS has one folder of images per class. An interrupted search resumes when the same command is repeated.
set -euo pipefail
photos=$1 out=$2
shift 2

m3d tune --preset photos_ipc1 --data "$photos" --set data.validation_fraction=0.2 --space "$(dirname "$0")/space.yaml" \
    --trials 8 --time-budget 1h --resume --out "$out/search" "$@"
m3d run --config "$out/search/best.json" --out "$out/run"
