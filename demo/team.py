# SPDX-License-Identifier: Apache-2.0
"""Several one-thread processes that train one network. On a CPU they are faster than one with several threads."""

from __future__ import annotations

import multiprocessing
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from benchmarks.common.measurement_lock import training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.queues import SimpleQueue

# glibc gives large blocks back to the system at once. Every step then waits for new pages, a quarter of its time.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 36), "MALLOC_TOP_PAD_": str(1 << 26)}
LONGEST_PAUSE = timedelta(days=1)  # while a measurement runs, members may pause at different steps


@dataclass(frozen=True, slots=True)
class Team:
    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def average_weights(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the weights of all members. They do so every few steps, so they rarely wait for the slowest."""
        if self.size == 1:
            return
        flat = torch.cat([p.reshape(-1) for p in parameters])
        dist.all_reduce(flat)
        pieces = (flat / self.size).split([p.numel() for p in parameters])  # type: ignore[no-untyped-call]
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))

    def agree(self, value: float) -> float:
        """The first member's value for all, so that all stop at the same step."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)


def run_team(work: Callable[..., None], size: int, *args: Any) -> None:
    """Call `work(team, *args)` in `size` processes; the first error ends them all.

    Raises OSError if a process cannot read or write, because the disk is full, for example.
    """
    if size == 1:
        with training():
            work(Team(0, 1), *args)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(KEEP_MEMORY)  # read when a process starts
    problems: SimpleQueue[str] = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        # As daemons, they end with this process.
        spawn(_member, (size, port, problems, work, args), nprocs=size, daemon=True)  # type: ignore[no-untyped-call]
    except ProcessExitedException:
        if problems.empty():
            raise
        raise OSError(problems.get()) from None


def _member(
    rank: int, size: int, port: int, problems: SimpleQueue[str], work: Callable[..., None], args: tuple[Any, ...]
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=LONGEST_PAUSE)
    try:
        with training():
            work(Team(rank, size), *args)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # the starting process reports it, once
    except OSError as error:
        problems.put(str(error))
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()
