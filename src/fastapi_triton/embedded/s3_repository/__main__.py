# SPDX-License-Identifier: Apache-2.0
"""`python -m fastapi_triton.embedded.s3_repository s3://bucket/prefix [-- COMMAND {}]`: download models, run a command.

The command replaces this process, with the folder for `{}`. Without a command, the folder is printed.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.fetch import fetch


def main() -> None:
    """Download the models, then print their folder or become the command."""
    parser = argparse.ArgumentParser(prog="python -m fastapi_triton.embedded.s3_repository", description=__doc__)
    parser.add_argument("url", help="s3://bucket/prefix, or s3://https://host:port/bucket/prefix")
    parser.add_argument("--models-cache", type=Path, help="folder for the models (FASTAPI_TRITON_MODELS_CACHE)")
    parser.add_argument("command", nargs="*", help="command to run, after --; {} in it is replaced by the folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    try:
        snapshot = fetch(options.url, cache=options.models_cache)
    except S3ModelsError as error:
        sys.exit(str(error))
    if not options.command:
        sys.stdout.write(f"{snapshot.models}\n")
        return
    snapshot.keep_over_exec()
    command = [word.replace("{}", str(snapshot.models)) for word in options.command]
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606  # a list, no shell


if __name__ == "__main__":
    main()
