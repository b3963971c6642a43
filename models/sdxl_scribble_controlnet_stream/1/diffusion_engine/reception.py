# SPDX-License-Identifier: Apache-2.0
"""A request's scribble: read, brought to one of the checkpoint's sizes, ready for the networks. No torch."""

from dataclasses import replace

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.generation import BatchKey, Generation
from diffusion_engine.pictures import read_picture_file
from diffusion_engine.receipt import SeenScribble
from diffusion_engine.scribble import read_scribble


def receive(generation: Generation, capabilities: Capabilities, *, max_pixels: int) -> None:
    """All that can be refused about a request is refused here, before the networks run.

    Raises:
        RequestError: no picture, or a size that the checkpoint cannot do.
    """
    request = generation.request
    scribble = None
    if request.image is not None:
        file = read_picture_file(request.image)
        scribble = read_scribble(file.content, max_pixels=max_pixels, invert=request.invert)
        generation.answer_as_text = file.is_text
    default_size = (capabilities.defaults.width, capabilities.defaults.height)
    width, height = capabilities.choose_size(
        request.width, request.height, scribble_size=scribble.size if scribble else default_size
    )
    generation.key = BatchKey(width, height, is_alone=request.reproducible)
    # Without its bytes: a scribble of 20 MB need not wait in the queue.
    generation.request = replace(request, width=width, height=height, image=None)
    if scribble is not None:
        generation.control_image = scribble.fit(width, height)
        generation.seen_scribble = SeenScribble.of(generation.control_image)
        generation.scribble_info = {**scribble.describe(), "sha256": generation.seen_scribble.sha256}
