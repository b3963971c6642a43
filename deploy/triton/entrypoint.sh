#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Starts Triton with the repository that MODEL_REPOSITORY names: a folder, s3://bucket/path (or
# s3://https://host:port/bucket/path), brought here first as a whole, or a URI that Triton reads itself (gs://, as://).
# Arguments are passed on to tritonserver.
set -euo pipefail

here="$(dirname "${BASH_SOURCE[0]}")"
repository="${MODEL_REPOSITORY:-/models}"
bring=()

case "$repository" in
s3://*)
    bring=(python3 "$here/s3_models.py" "$repository" --)
    repository="{}"
    ;;
*://*) ;;
*)
    if ! compgen -G "$repository/*/config.pbtxt" >/dev/null; then
        echo "There is no model in $repository: mount a model repository there (-v ./models:/models:ro), or name one with MODEL_REPOSITORY=s3://bucket/path." >&2
        exit 1
    fi
    ;;
esac

# exec: the signal that stops the container reaches Triton, which then finishes what it has begun.
exec "${bring[@]}" tritonserver \
    --model-repository="$repository" \
    --exit-timeout-secs="${TRITON_EXIT_TIMEOUT_S:-120}" \
    "$@"
