# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine.picture_decoders`: measure the cost of decoding pictures in a separate process.

Each round decodes a picture once in this process and once in a decoder. Ratios are computed within a round.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from diffusion_engine.picture_decoder import PictureDecoder, memory_for
from diffusion_engine.pictures import examine
from diffusion_engine.scribble import ScribbleDecoding, decode_scribble

from benchmarks import ROOT
from benchmarks.common.measurement_lock import measurement
from benchmarks.common.ratio import Ratio

SCRIBBLES = ROOT / "tests" / "data" / "scribbles"
PICTURES = ("white-on-black.png", "yellow-pen.jpg", "phone-photo-with-shadow.jpg", "thin-lines-4000px.png")
MAX_PIXELS = 50_000_000
NUM_ROUNDS = 100


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def resident_mib(pid: int) -> float:
    """The resident memory of a process, on Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status has no VmRSS")


def compare(decoder: PictureDecoder, content: bytes) -> str:
    """Decode in this process and in the decoder, alternately."""
    structure = examine(content, max_pixels=MAX_PIXELS)
    part = structure.essential(content)

    def here() -> object:
        return decode_scribble(part, structure, "auto")

    def there() -> object:
        return decoder.decode(ScribbleDecoding("auto"), part, structure, check=lambda: None)

    rounds = [(milliseconds(here), milliseconds(there)) for _ in range(NUM_ROUNDS)]
    one, other = (statistics.median(each) for each in zip(*rounds, strict=True))
    difference = Ratio.of([there - here for here, there in rounds])
    ratio = Ratio.of([there / here for here, there in rounds])
    return f"in this process {one:.2f} ms, in a decoder {other:.2f} ms, added {difference} ms, ratio {ratio}"


def main() -> None:
    decoder = PictureDecoder(memory_bytes=memory_for(MAX_PIXELS), timeout_s=60)
    starts = [milliseconds(lambda: decoder.start(lambda: None)) for _ in range(10)]
    sys.stdout.write(f"start: {statistics.median(starts):.0f} ms; idle: {resident_mib(decoder.pid or 0):.0f} MiB\n")
    for name in PICTURES:
        sys.stdout.write(f"{name}: {compare(decoder, (SCRIBBLES / name).read_bytes())}\n")
    decoder.stop()


if __name__ == "__main__":
    with measurement():
        main()
