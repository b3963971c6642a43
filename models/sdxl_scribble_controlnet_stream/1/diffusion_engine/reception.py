# SPDX-License-Identifier: Apache-2.0
"""A request's scribble: read, brought to one of the checkpoint's sizes, ready for the networks. No torch."""

from collections.abc import Callable
from dataclasses import replace

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.generation import BatchKey, Generation
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.pictures import MAX_SIDE, examine, read_picture_file
from diffusion_engine.receipt import SeenScribble
from diffusion_engine.scribble import Scribble, decode_scribble


def receive(
    generation: Generation,
    capabilities: Capabilities,
    *,
    max_pixels: int,
    max_side: int = MAX_SIDE,
    decode: Callable[[bytes, Structure, str], Scribble] = decode_scribble,
) -> None:
    """All that can be refused about a request is refused here, before the networks run.

    Args:
        decode: finds the strokes, in this process or in another.

    Raises:
        RequestError: no picture, or a size that the checkpoint cannot do.
    """
    request = generation.request
    scribble = None
    if request.image is not None:
        file = read_picture_file(request.image)
        structure = examine(file.content, max_pixels=max_pixels, max_side=max_side)
        scribble = decode(structure.essential(file.content), structure, request.invert)
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
