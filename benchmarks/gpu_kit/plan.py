# SPDX-License-Identifier: Apache-2.0
"""What is measured: SDXL at full size on a GPU, or tiny networks on a CPU, to test the kit itself. Imports no torch."""

from dataclasses import dataclass

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The networks and the amount of work of all parts."""

    is_tiny: bool = False
    device: str = "cuda"
    dtype: str = "float16"
    sizes: tuple[Size, ...] = ((1024, 1024), (768, 768), (512, 512))  # the first is that of all pictures
    rows: tuple[int, ...] = (1, 2, 4, 8, 16)
    num_steps: int = 30  # of a picture
    at_once: tuple[int, ...] = (1, 2, 4, 8)  # requests
    parity_steps: tuple[int, ...] = (4, 6, 9)  # one request each
    trace_steps: tuple[int, ...] = (4, 8, 20, 50)
    trace_jobs: int = 8
    cancellations: int = 5
    cancelled_steps: int = 30
    num_repeats: int = 5  # of pictures that must be equal
    compile_backend: str = ""  # empty: torch's own


SDXL = Plan()
TINY = Plan(
    is_tiny=True,
    device="cpu",
    dtype="float32",
    sizes=((64, 64), (96, 96)),
    rows=(1, 2, 4),
    num_steps=4,
    at_once=(1, 2),
    parity_steps=(1, 2),
    trace_steps=(1, 2, 3, 4),
    trace_jobs=4,
    cancellations=2,
    num_repeats=2,
    compile_backend="eager",  # no C++ compiler, and no minutes of compilation
)
