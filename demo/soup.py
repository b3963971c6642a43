# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.soup`: combine trainings that continued the same checkpoint, without training.

The new weights are START + factor * (mean of CONTINUED - START). The mean of several trainings is often better than
each of them (model soups, Wortsman et al., ICML 2022, arXiv:2203.05482). A factor over 1 goes further in the
direction of the change (task arithmetic, Ilharco et al., ICLR 2023, arXiv:2212.04089), as more training would. The
decoder, LoRAs and all other files are those of the last of CONTINUED.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file

from demo.bundle import TRAINED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

logger = logging.getLogger("demo.soup")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.soup", description=__doc__)
    parser.add_argument("start", type=Path, help="folder of the checkpoint that all trainings continued")
    parser.add_argument("continued", type=Path, nargs="+", help="folders of the checkpoints that they made")
    parser.add_argument("--shares", type=float, nargs="+", help="of each in the mean; default: equal ones")
    parser.add_argument("--factor", type=float, default=1.0, help="over 1, the change of the weights is larger")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new checkpoint")
    options = parser.parse_args(arguments)
    options.shares = options.shares or [1 / len(options.continued)] * len(options.continued)
    if len(options.shares) != len(options.continued) or abs(sum(options.shares) - 1) > 1e-6:
        parser.error("--shares needs a share for each training, and their sum is 1")
    for folder in (options.start, *options.continued):
        if not (folder / "model_index.json").exists():
            parser.error(f"{folder} is not a checkpoint folder: it has no model_index.json")
    return options


def combined(
    start: torch.Tensor, continued: Sequence[torch.Tensor], shares: Sequence[float], factor: float
) -> torch.Tensor:
    """One weight of the new checkpoint; computed in fp32."""
    changes = [share * (each.float() - start.float()) for share, each in zip(shares, continued, strict=True)]
    return (start.float() + factor * sum(changes)).to(start.dtype)


def combine(options: argparse.Namespace) -> None:
    shutil.copytree(options.continued[-1], options.out, dirs_exist_ok=True)
    for file in (path for name in TRAINED for path in sorted((options.start / name).glob("*.safetensors"))):
        relative = file.relative_to(options.start)
        start, *continued = (load_file(folder / relative) for folder in (options.start, *options.continued))
        weights = {
            name: combined(value, [each[name] for each in continued], options.shares, options.factor)
            for name, value in start.items()
        }
        save_file(weights, options.out / relative, metadata={"format": "pt"})


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parse()
    try:
        combine(options)
    except OSError as error:
        logger.error("cannot read or write: %s", error)
        return 2
    out = options.out
    logger.info("checkpoint written to %s; evaluate it with: python -m demo.evaluate --checkpoint %s", out, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
