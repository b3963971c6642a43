# SPDX-License-Identifier: Apache-2.0
"""Preprocesses requests: decodes the scribble and fits it to one of the checkpoint's sizes. Imports no torch."""

from collections.abc import Callable
from dataclasses import replace

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.pictures import MAX_SIDE, examine, read_picture_file
from diffusion_engine.receipt import SeenScribble
from diffusion_engine.request_state import BatchKey, RequestState
from diffusion_engine.scribble import Scribble, decode_scribble


def preprocess(
    state: RequestState,
    capabilities: Capabilities,
    *,
    max_pixels: int,
    max_side: int = MAX_SIDE,
    decode: Callable[[bytes, Structure, str], Scribble] = decode_scribble,
) -> None:
    """Set the size and the control image of a request. All invalid requests fail here, before any pass.

    Args:
        decode: finds the strokes, in this process or in another.

    Raises:
        RequestError: the scribble is not a picture, or the checkpoint does not support the size.
    """
    request = state.request
    scribble = None
    if request.image is not None:
        file = read_picture_file(request.image)
        structure = examine(file.content, max_pixels=max_pixels, max_side=max_side)
        scribble = decode(structure.essential(file.content), structure, request.invert)
        state.is_base64 = file.is_base64
    default_size = (capabilities.defaults.width, capabilities.defaults.height)
    width, height = capabilities.choose_size(
        request.width, request.height, scribble_size=scribble.size if scribble else default_size
    )
    state.key = BatchKey(width, height, is_alone=request.reproducible)
    # Drop the scribble's bytes, up to 20 MB, so that waiting requests do not keep them in memory.
    state.request = replace(request, width=width, height=height, image=None)
    if scribble is not None:
        state.control_image = scribble.fit(width, height)
        state.seen_scribble = SeenScribble.of(state.control_image)
        state.scribble_info = {**scribble.describe(), "sha256": state.seen_scribble.sha256}
