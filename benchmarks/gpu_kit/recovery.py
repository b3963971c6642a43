# SPDX-License-Identifier: Apache-2.0
"""Part `recovery`: the engine after its GPU memory ran out, in a pass and in the VAE.

On a GPU, the memory of this process is limited. On a CPU, the networks raise the error.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.request_state import BatchKey, GeneratedPicture

from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.plan import Size

NUM_REQUESTS = 4
NO_LIMIT = 1 << 62


class Limited:
    """A network that has memory for inputs with at most `most` numbers."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.most = NO_LIMIT

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, latents: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if latents.numel() > self.most:
            raise torch.OutOfMemoryError("no memory is left (a test)")
        return self._network(latents, *arguments, **options)


class Ending:
    """How a request ended: `finished`, `finished in tiles`, or the code of its error."""

    def __init__(self) -> None:
        self.how = ""

    def moved(self, position: object) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None: ...

    def completed(self, picture: GeneratedPicture) -> None:
        self.how = "finished in tiles" if picture.info.get("vae_tiling") else "finished"

    def failed(self, error: RequestError) -> None:
        self.how = error.code


def measure(bench: Bench) -> None:
    networks = bench.networks(bench.pipeline())
    unet, decode = Limited(networks.unet), Limited(networks.vae_decode)
    engine = bench.engine(max_rows=2 * NUM_REQUESTS, networks=replace(networks, unet=unet, vae_decode=decode))
    engine.output_processor.start()
    largest, smallest = max(bench.plan.sizes), min(bench.plan.sizes)

    two, four = (peak(bench, lambda count=count: predict(bench, engine, largest, count)) for count in (2, 4))  # type: ignore[misc]
    limit(bench, unet, bytes_on_gpu=(two + four) // 2, numbers=4 * numbers(bench, engine, largest))
    together = run(bench, engine, largest, NUM_REQUESTS, after_first_step=lambda: unlimit(bench, unet))
    max_rows = engine.row_limits.max_rows(BatchKey(*largest))

    latents = bench.states(engine, largest, 1)[0].encoded.latents
    one, decoding = (
        peak(bench, lambda: predict(bench, engine, largest, 1)),
        peak(bench, lambda: engine.vae_decoder.decode(latents)),
    )
    limit(bench, decode, bytes_on_gpu=(one + decoding) // 2, numbers=numbers(bench, engine, largest) - 1)
    undecoded, smaller = run(bench, engine, largest, 1), run(bench, engine, smallest, 1)
    engine.output_processor.stop()  # sends the last events

    how = [[each.how for each in endings] for endings in (together, undecoded, smaller)]
    bench.row(case="4 guided requests, memory for 2", outcome=", ".join(how[0]), row_limit_afterwards=max_rows)
    bench.row(case="a picture that cannot be decoded at once", outcome=", ".join(how[1]))
    bench.row(case="a smaller one after it", outcome=", ".join(how[2]))
    has_tiles = max(largest) > networks.tiled_vae.tile_sample_min_size
    expected = [["finished"] * NUM_REQUESTS, ["finished in tiles" if has_tiles else "out_of_memory"], ["finished"]]
    is_right = how == expected and max_rows <= NUM_REQUESTS
    follows = "The recovery works." if is_right else "The recovery must be mended."
    bench.decide("Q9 out of memory", measured="; ".join(", ".join(each) for each in how), follows=follows)


def run(
    bench: Bench, engine: Engine, size: Size, count: int, *, after_first_step: Callable[[], None] = lambda: None
) -> list[Ending]:
    """Run guided requests to their end. How they ended is known when the output processor has stopped."""
    endings = [Ending() for _ in range(count)]
    for state, ending in zip(bench.states(engine, size, count, num_steps=2), endings, strict=True):
        state.listener = ending
        engine.step_scheduler.add_request(state)
    engine.step()
    after_first_step()
    while engine.step():
        pass
    return endings


def predict(bench: Bench, engine: Engine, size: Size, count: int) -> None:
    engine.denoiser.predict(bench.states(engine, size, count))
    engine.denoiser.clear_cache()


def numbers(bench: Bench, engine: Engine, size: Size) -> int:
    """The numbers in the latents of one row."""
    return int(bench.states(engine, size, 1)[0].encoded.latents.numel())


def peak(bench: Bench, work: Callable[[], object]) -> int:
    """The most bytes of GPU memory during some work; 0 on a CPU."""
    bench.reset_peak()
    work()
    bench.synchronize()
    return torch.cuda.max_memory_allocated() if bench.is_gpu else 0


def unlimit(bench: Bench, network: Limited) -> None:
    """Remove the limit, because a picture may need more memory to decode than the pass that was limited."""
    limit(bench, network, bytes_on_gpu=None, numbers=NO_LIMIT)


def limit(bench: Bench, network: Limited, *, bytes_on_gpu: int | None, numbers: int) -> None:
    """Limit the GPU memory of this process; None: all. On a CPU, limit the network."""
    if not bench.is_gpu:
        network.most = numbers
        return
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(1.0 if bytes_on_gpu is None else bytes_on_gpu / total)
