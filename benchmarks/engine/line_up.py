# SPDX-License-Identifier: Apache-2.0
"""Who is measured, by letter. Those that are not usual answer a question of their own."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks.engine.live_engine import LiveEngine
from benchmarks.engine.options import Options
from benchmarks.engine.peer import Peer
from benchmarks.engine.stock import Stock, Weights
from benchmarks.engine.two_engines import TwoEngines
from benchmarks.engine.two_processes import TwoProcesses
from benchmarks.engine.whole_requests import WholeRequests

logger = logging.getLogger(__name__)

ONE_AT_A_TIME = "(a) one at a time"
WHOLE_BATCHES = "(b) whole-request batches"
TWO_PROCESSES = "(c) two processes"
ENGINE = "engine"
TWO_ENGINES = "two engines"

Build = Callable[[Stock, Weights, int], Peer]

PEERS: Mapping[str, Build] = {
    "a": lambda stock, _weights, _rows: WholeRequests(ONE_AT_A_TIME, stock, max_batch=1),
    "b": lambda stock, _weights, _rows: WholeRequests(WHOLE_BATCHES, stock, max_batch=8),
    "c": lambda _stock, weights, _rows: TwoProcesses(TWO_PROCESSES, weights),
    "e": lambda stock, _weights, rows: LiveEngine(ENGINE, stock, max_rows=rows),
    "t": lambda _stock, weights, rows: TwoEngines(TWO_ENGINES, weights, max_rows=rows),
    "e8": lambda stock, _weights, _rows: LiveEngine("engine, 8 rows", stock, max_rows=8),
    "e16": lambda stock, _weights, _rows: LiveEngine("engine, 16 rows", stock, max_rows=16),
    "t8": lambda _stock, weights, _rows: TwoEngines("two engines, 8 rows", weights, max_rows=8),
    "t16": lambda _stock, weights, _rows: TwoEngines("two engines, 16 rows", weights, max_rows=16),
    "bf16": lambda _stock, weights, rows: bfloat16_engine(weights, rows),
}
USUAL = "a,b,c,e,t"


def bfloat16_engine(weights: Weights, max_rows: int) -> Peer:
    stock = Stock.load(replace(weights, dtype="bfloat16"))
    return LiveEngine("engine, bfloat16", stock, max_rows=max_rows)


def line_up(options: Options, stock: Stock, *, max_rows: int) -> list[Peer]:
    """Everyone who was asked for, loaded and warm."""
    peers = []
    for letter in (options.letters or USUAL).split(","):
        peer = PEERS[letter.strip()](stock, options.weights, max_rows)
        logger.info("warming up: %s", peer.name)
        peer.warm_up()
        peers.append(peer)
    return peers
