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

from safetensors import SafetensorError
from safetensors.torch import load_file

from demo.bundle import TRAINED
from demo.weights import write_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    Weights = dict[str, dict[str, torch.Tensor]]  # of each file

logger = logging.getLogger("demo.soup")


class SoupError(Exception):
    """Checkpoints that cannot be combined."""


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
        if folder.resolve() == options.out.resolve():
            parser.error(f"--out {options.out} is read as well: choose another folder")
    return options


def combined(
    start: torch.Tensor, continued: Sequence[torch.Tensor], shares: Sequence[float], factor: float
) -> torch.Tensor:
    """One weight of the new checkpoint; computed in fp32."""
    changes = [share * (each.float() - start.float()) for share, each in zip(shares, continued, strict=True)]
    return (start.float() + factor * sum(changes)).to(start.dtype)


def combine(options: argparse.Namespace) -> None:
    start, *continued = (load(folder) for folder in (options.start, *options.continued))
    for folder, weights in zip(options.continued, continued, strict=True):
        if what := difference(start, weights) or difference_of_tokens(options.start, folder):
            message = f"{folder} did not continue {options.start}: they differ in {what}"
            raise SoupError(message)
    shutil.copytree(options.continued[-1], options.out, dirs_exist_ok=True)
    for file, tensors in start.items():
        new = {
            name: combined(value, [weights[file][name] for weights in continued], options.shares, options.factor)
            for name, value in tensors.items()
        }
        write_weights(new, options.out / file)


def load(folder: Path) -> Weights:
    files = (path for name in TRAINED for path in sorted((folder / name).glob("*.safetensors")))
    return {str(path.relative_to(folder)): load_file(path) for path in files}


def difference(first: Weights, second: Weights) -> str:
    """The first tensor that is missing or has another shape in one of them, or an empty string."""
    one, other = (
        {(file, name, value.shape) for file, tensors in weights.items() for name, value in tensors.items()}
        for weights in (first, second)
    )
    return next((f"{name} of {file}" for file, name, _ in sorted(one ^ other)), "")


def difference_of_tokens(first: Path, second: Path) -> str:
    one, other = (folder / "tokenizer" / "tokenizer.json" for folder in (first, second))
    return "the vocabulary" if one.exists() and one.read_bytes() != other.read_bytes() else ""


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parse()
    try:
        combine(options)
    except SoupError as error:
        logger.error("%s", error)
        return 2
    except (OSError, SafetensorError) as error:
        logger.error("cannot read or write: %s", error)
        return 2
    out = options.out
    logger.info("checkpoint written to %s; evaluate it with: python -m demo.evaluate --checkpoint %s", out, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
