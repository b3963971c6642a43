# SPDX-License-Identifier: Apache-2.0
"""The peers by letter, for `--peers`. Those outside of `USUAL` are for special comparisons."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

import torch

from benchmarks.engine.engine_processes import EngineProcesses
from benchmarks.engine.feature_peers import CachedEngine, FourLoRAs, OneLoRAAtATime
from benchmarks.engine.in_process_engine import InProcessEngine
from benchmarks.engine.options import Options
from benchmarks.engine.peer import ENGINE, ONE_AT_A_TIME, SERVED, TWO_PROCESSES, WHOLE_BATCHES, Peer
from benchmarks.engine.served_engine import ServedEngine
from benchmarks.engine.stock_pipeline import StockPipeline, Weights
from benchmarks.engine.two_stock_processes import TwoStockProcesses
from benchmarks.engine.whole_request_batching import WholeRequestBatching

logger = logging.getLogger(__name__)

Build = Callable[[StockPipeline, Weights, int], Peer]

PEERS: Mapping[str, Build] = {
    "a": lambda stock, _weights, _rows: WholeRequestBatching(ONE_AT_A_TIME, stock, max_batch=1),
    "b": lambda stock, _weights, _rows: WholeRequestBatching(WHOLE_BATCHES, stock, max_batch=8),
    "c": lambda _stock, weights, _rows: TwoStockProcesses(TWO_PROCESSES, weights),
    "e": lambda stock, weights, rows: one_engine(ENGINE, stock, weights, rows),
    "h": lambda _stock, weights, rows: ServedEngine(SERVED, weights, max_rows=rows),
    "k": lambda _stock, weights, rows: CachedEngine(weights, max_rows=rows),
    "l": lambda _stock, weights, rows: FourLoRAs(weights, max_rows=rows),
    "l1": lambda _stock, weights, rows: OneLoRAAtATime(weights, max_rows=rows),
    "t": lambda _stock, weights, rows: two_engines(weights, rows),
    "e8": lambda stock, weights, _rows: one_engine("engine, 8 rows", stock, weights, 8),
    "e16": lambda stock, weights, _rows: one_engine("engine, 16 rows", stock, weights, 16),
    "bf16": lambda stock, weights, rows: one_engine(
        "engine, bfloat16", stock, replace(weights, dtype="bfloat16"), rows
    ),
}
USUAL = "a,b,c,e,h,k,l,l1"


def one_engine(name: str, stock: StockPipeline, weights: Weights, max_rows: int) -> Peer:
    """An engine. On a CPU it has its own process, because it and the stock pipeline need different OpenMP settings."""
    if stock.pipeline.device.type != "cpu":
        return InProcessEngine(name, stock, max_rows=max_rows)
    return EngineProcesses(name, weights, max_rows=max_rows, count=1, num_threads=torch.get_num_threads())


def two_engines(weights: Weights, max_rows: int) -> Peer:
    num_threads = max(1, torch.get_num_threads() // 2)
    return EngineProcesses("two engines", weights, max_rows=max_rows, count=2, num_threads=num_threads)


def start_peers(options: Options, stock: StockPipeline, *, max_rows: int) -> list[Peer]:
    """Load and warm up the selected peers."""
    with ExitStack() as closing:  # closes the started peers if another one fails
        peers = []
        for letter in (options.letters or USUAL).split(","):
            peer = PEERS[letter.strip()](stock, options.weights, max_rows)
            closing.callback(peer.close)
            logger.info("warming up: %s", peer.name)
            peer.warm_up()
            peers.append(peer)
        closing.pop_all()
    return peers
