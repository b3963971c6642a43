# SPDX-License-Identifier: Apache-2.0
"""The row limit of a pass for each size, from the measured time t(rows) of passes. Imports no torch."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diffusion_engine.request_state import BatchKey

logger = logging.getLogger(__name__)

ROW_COUNTS = (1, 2, 4, 8, 16)
# Fewer rows are preferred if they reach this part of the best throughput, because passes with more rows take longer.
NEARLY_BEST = 0.95

Times = Mapping[int, float]  # rows → seconds of one pass
Measure = Callable[[BatchKey, int], float | None]  # None: this many rows do not fit into memory


def knee(times: Times) -> int:
    """The smallest measured row count whose throughput in rows per second is close to the best."""
    best = max(count / seconds for count, seconds in times.items())
    return min(count for count, seconds in times.items() if count / seconds >= NEARLY_BEST * best)


def is_enough(times: Times) -> bool:
    """Whether passes with even more rows need not be measured: the last two doublings brought nothing."""
    largest = max(times)
    return largest == ROW_COUNTS[-1] or largest >= 4 * knee(times)


class RowLimits:
    """The limit of each size. After running out of memory, `shed` lowers a limit for good."""

    def __init__(self, limits: Mapping[BatchKey, int], *, default: int = 8) -> None:
        self._limits = dict(limits)
        self._default = default

    def max_rows(self, key: BatchKey) -> int:
        """The row limit of a pass. A single request may have more rows: it always gets a pass."""
        return 1 if key.is_alone else self._limits.get(key, self._default)

    def shed(self, key: BatchKey, *, below: int) -> None:
        """Halve the limit, because a pass of `below` rows ran out of memory."""
        self._limits[key] = max(1, min(self.max_rows(key), below) // 2)
        logger.warning(
            "out of memory with %d rows at %s; the limit is now %d", below, _name(key[:2]), self._limits[key]
        )


def profiled(
    sizes: Sequence[tuple[int, int]],
    measure: Measure,
    *,
    budget_s: float,
    cache_file: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RowLimits:
    """Measure t(rows) for every size, in order, and log the limits.

    Sizes in the cache are not measured again. The first size is always measured, others while the budget lasts. The
    limits of the rest are estimated, with as many pixels in a pass as the first size. The next start measures them.
    """
    times = _read(cache_file)
    started, num_known = clock(), len(times)
    for size in sizes:
        is_due = _name(size) not in times and (size == sizes[0] or clock() - started < budget_s)
        if is_due and (measured := _measured(BatchKey(*size), measure)):
            times[_name(size)] = measured
    if _name(sizes[0]) not in times:
        raise MemoryError(
            f"not even one row at {_name(sizes[0])} fits into the GPU's memory beside the weights. Use a GPU with more "
            "memory, or a checkpoint whose serving.json has a smaller default size"
        )
    if len(times) > num_known:
        # Without the sizes for which memory was short: other processes may have used it.
        _write(cache_file, {name: each for name, each in times.items() if is_enough(each)})
    first = knee(times[_name(sizes[0])]) * sizes[0][0] * sizes[0][1]
    limits = {}
    for size in sizes:
        known = times.get(_name(size))
        limits[BatchKey(*size)] = knee(known) if known else max(1, first // (size[0] * size[1]))
        if known:
            times_of_rows = ", ".join(f"{rows}: {1000 * seconds:.1f} ms" for rows, seconds in known.items())
            logger.info("passes at %s by rows: %s", _name(size), times_of_rows)
    logger.info("rows at most: %s", ", ".join(f"{_name(size)}: {limits[BatchKey(*size)]}" for size in sizes))
    return RowLimits(limits)


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def cache_path(folder: Path, *facts: object) -> Path:
    """The cache file for a checkpoint and its weights, device, dtype, number of threads, version of torch and so on."""
    digest = hashlib.sha256(json.dumps([str(fact) for fact in facts]).encode()).hexdigest()[:16]
    return folder / f"rows-{digest}.json"


def _measured(key: BatchKey, measure: Measure) -> dict[int, float]:
    times: dict[int, float] = {}
    for count in ROW_COUNTS:
        seconds = measure(key, count)
        if seconds is None:
            break
        times[count] = seconds
        if is_enough(times):
            break
    return times


def _read(file: Path | None) -> dict[str, dict[int, float]]:
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text())
        times = {name: {int(rows): float(seconds) for rows, seconds in each.items()} for name, each in content.items()}
        if all(each and all(_is_plausible(*one) for one in each.items()) for each in times.values()):
            return times
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    logger.warning("%s cannot be read; passes are measured again", file)
    return {}


def _is_plausible(num_rows: int, seconds: float) -> bool:
    return num_rows > 0 and 0 < seconds < math.inf


def _write(file: Path | None, times: Mapping[str, Times]) -> None:
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(times))
    except OSError as error:
        logger.warning("the measured passes cannot be kept in %s: %s", file, error)
