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
    is_decision: bool = False  # it answers questions of questions.md

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
    Part(
        name="waits",
        title="Waits for the GPU in a step",
        decides="Whether the engine's thread queues a whole step without waiting for the GPU.",
        seconds=20,
        memory_gib=11,
        is_decision=True,
    ),
    Part(
        name="broken_gpu",
        title="A GPU that no longer works",
        decides="Whether the engine's process ends, so that the frontend notices.",
        seconds=40,
        memory_gib=3,
        is_decision=True,
    ),
    Part(
        name="recovery",
        title="Recovery when the memory runs out",
        decides="Whether the engine goes on when a pass or a picture needs more memory than there is.",
        seconds=30,
        memory_gib=14,
        is_decision=True,
    ),
    Part(
        name="vae",
        title="Decoding",
        decides="The VAE's dtype and memory layout, and whether it gets a stream of its own.",
        seconds=55,
        memory_gib=15,
        is_decision=True,
    ),
    Part(
        name="idle",
        title="Idle time of the GPU between passes",
        decides="Whether work between passes must overlap with them.",
        seconds=50,
        memory_gib=15,
        is_decision=True,
    ),
    Part(
        name="growth",
        title="Memory over many requests",
        decides="Whether GPU memory grows, and the setting of PyTorch's allocator.",
        seconds=70,
        memory_gib=15,
        is_decision=True,
    ),
    Part(
        name="reproducible",
        title="Reproducible pictures",
        decides="Whether `reproducible` holds on a GPU.",
        seconds=40,
        memory_gib=13,
        is_decision=True,
    ),
    Part(
        name="attention",
        title="Attention by backend",
        decides="Whether PyTorch's choice of the attention's backend is the fastest.",
        seconds=20,
        memory_gib=6,
        is_decision=True,
    ),
    Part(
        name="kernels",
        title="cuDNN's benchmark mode and CUDA graphs",
        decides="Whether they are worth their warm-up and memory.",
        seconds=60,
        memory_gib=16,
        is_decision=True,
    ),
    Part(
        name="copies",
        title="Copies to a busy GPU",
        decides="How a step's noise should travel to the GPU.",
        seconds=10,
        memory_gib=3,
        is_decision=True,
    ),
)
