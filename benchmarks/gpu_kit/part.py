# SPDX-License-Identifier: Apache-2.0
"""The parts of the kit in the order in which they run: the most valuable first. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part. Its module of the same name has `measure(bench)`.

    Args:
        decides: what its numbers are for, in a sentence.
        seconds: the time limit on a GPU. A part that takes longer is stopped, and its rows so far count.
        memory_gib: the GPU memory that it needs. On a smaller GPU it is skipped.
    """

    name: str
    title: str
    decides: str
    seconds: float
    memory_gib: float = 3.0

    @property
    def module(self) -> str:
        return f"benchmarks.gpu_kit.{self.name}"


PARTS = (
    Part(
        name="build",
        title="Networks at full size",
        decides="How long loading takes without reading files, and which GPUs are large enough.",
        seconds=60,
        memory_gib=11,
    ),
    Part(
        name="passes",
        title="Time and memory of a pass by rows, without compilation",
        decides="The row limit of each size (`max_rows`), the default of `channels_last`, and the replicas of a fleet.",
        seconds=75,
        memory_gib=13,
    ),
    Part(
        name="parity",
        title="Pictures against stock diffusers, by dtype",
        decides="Whether the engine makes the right pictures on a GPU, and in which dtypes.",
        seconds=75,
        memory_gib=3,
    ),
    Part(
        name="cancellation",
        title="Cancellation",
        decides="Whether a cancelled request frees its rows within one step.",
        seconds=25,
        memory_gib=11,
    ),
    Part(
        name="pictures",
        title="Seconds a picture, alone and together, against stock diffusers",
        decides="What sharing passes gains in throughput at this size.",
        seconds=130,
        memory_gib=15,
    ),
    Part(
        name="compiled",
        title="Time of a pass by rows, compiled",
        decides="Whether `compile` pays, how long it delays the start, and whether passes compile again later.",
        seconds=110,
        memory_gib=15,
    ),
    Part(
        name="traces",
        title="Requests that arrive at random, against stock diffusers",
        decides="Latency and first previews under load: the case for sharing passes even if throughput gains little.",
        seconds=110,
        memory_gib=15,
    ),
    Part(
        name="served",
        title="The whole path: frontend, Triton and engine",
        decides="Whether the embedded Triton works on this GPU, and what HTTP and Triton add.",
        seconds=90,
        memory_gib=3,
    ),
)
