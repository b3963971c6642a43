#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Starts Triton with MODEL_REPOSITORY: a folder, s3://bucket/path or s3://https://host:port/bucket/path, which is downloaded
# first, or a URI that Triton reads itself (gs://, as://). Arguments are passed to tritonserver.
set -euo pipefail

here="$(dirname "${BASH_SOURCE[0]}")"
repository="${MODEL_REPOSITORY:-/models}"
download=()

case "$repository" in
s3://*)
    download=(python3 "$here/s3_models.py" "$repository" --)
    repository="{}"
    ;;
*://*) ;;
*)
    if ! compgen -G "$repository/*/config.pbtxt" >/dev/null; then
        echo "There is no model in $repository. Mount a model repository there (-v ./models:/models:ro), or set MODEL_REPOSITORY=s3://bucket/path." >&2
        exit 1
    fi
    ;;
esac

# exec, so that the signal that stops the container reaches Triton, which then finishes running requests.
exec "${download[@]}" tritonserver \
    --model-repository="$repository" \
    --exit-timeout-secs="${TRITON_EXIT_TIMEOUT_S:-120}" \
    "$@"
