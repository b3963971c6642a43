# SPDX-License-Identifier: Apache-2.0
"""Preprocesses requests: decodes the pictures and fits them to one of the checkpoint's sizes. Imports no torch."""

import math
from dataclasses import dataclass, replace

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.decoding import Decode, Decoding, T, decode_here
from diffusion_engine.errors import RequestError
from diffusion_engine.fitted_picture import MaskDecoding, PictureDecoding
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.picture_sizes import choose_size
from diffusion_engine.pictures import MAX_SIDE, examine, hash_of_pixels, read_picture_file
from diffusion_engine.placement import Placement, Size
from diffusion_engine.receipt import SeenScribble
from diffusion_engine.request_state import BatchKey, RequestState
from diffusion_engine.scribble import ScribbleDecoding

# A mask whose shape differs more from that of its picture belongs to another picture.
MAX_SHAPE_DIFFERENCE = 0.02


@dataclass(frozen=True, slots=True)
class InputPicture:
    """A picture file that has been examined, but not decoded."""

    content: bytes
    structure: Structure
    is_base64: bool

    def decoded(self, decode: Decode, decoding: Decoding[T]) -> T:
        return decode(decoding, self.structure.essential(self.content), self.structure)


def preprocess(
    state: RequestState,
    capabilities: Capabilities,
    *,
    max_pixels: int,
    max_side: int = MAX_SIDE,
    decode: Decode = decode_here,
) -> None:
    """Set the size and the pictures of a request. All invalid requests fail here, before any pass.

    Args:
        decode: decodes a picture, in this process or in another.

    Raises:
        RequestError: an input is not a picture, or the checkpoint does not support the size.
    """
    request = state.request

    def examined(name: str, value: bytes | None) -> InputPicture | None:
        if value is None:
            return None
        file = read_picture_file(value, field=name)
        structure = examine(file.content, max_pixels=max_pixels, max_side=max_side, field=name)
        return InputPicture(file.content, structure, file.is_base64)

    drawing, initial = examined("image", request.image), examined("init_image", request.init_image)
    mask = examined("mask", request.mask)
    scribble = drawing.decoded(decode, ScribbleDecoding(request.invert)) if drawing else None
    shape = (capabilities.defaults.width, capabilities.defaults.height)
    if scribble or initial:
        shape = scribble.size if scribble else initial.structure.upright_size  # type: ignore[union-attr]
    size = choose_size(capabilities, request.width, request.height, scribble_size=shape)
    state.key = BatchKey(*size.made, is_alone=request.reproducible)
    if size.is_upscaled:
        state.notes.append(
            f"{capabilities.name} makes pictures of {_text(size.made)}, so this one was upscaled to {_text(size.sent)}."
        )
    if file := drawing or initial:
        state.is_base64 = file.is_base64
    # Drop the files, up to 20 MB, so that waiting requests do not keep them in memory.
    state.request = replace(request, width=size.sent[0], height=size.sent[1], image=None, init_image=None, mask=None)
    if scribble is not None:
        state.control_image = scribble.fit(*size.made)
        state.seen_scribble = SeenScribble.of(state.control_image)
        state.scribble_info = {**scribble.describe(), "sha256": state.seen_scribble.sha256}
    if initial is not None:
        place_initial(state, initial, mask, decode)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def place_initial(state: RequestState, initial: InputPicture, mask: InputPicture | None, decode: Decode) -> None:
    """Set the picture that the request starts from, and the mask of the region that is painted anew.

    They have the size of the picture in the response, so that a kept region is as sharp as it was.
    """
    request = state.request
    place = Placement.of(initial.structure.upright_size, state.sent_size)
    state.init_image = initial.decoded(decode, PictureDecoding.at(place))
    state.picture_hashes["init_image_sha256"] = hash_of_pixels(state.init_image)
    if any(place.margins):
        state.notes.append("`init_image` has another shape than the picture, so the colours of its edges continue.")
    if mask is None:
        return
    require_same_shape(mask.structure.upright_size, initial.structure.upright_size, state)
    state.mask = mask.decoded(decode, MaskDecoding.at(place, selects=request.mask_selects, blur=request.mask_blur))
    if state.mask.getextrema()[1] < 128:
        raise RequestError("empty_mask", f"`mask` selects nothing: {SELECTING[request.mask_selects]}", field="mask")
    state.picture_hashes["mask_sha256"] = hash_of_pixels(state.mask)


# What a mask must have, by `mask_selects`.
SELECTING = {
    "white": "it has no white parts. Paint the region white, or send `mask_selects`.",
    "black": "it has no black parts. Paint the region black, or omit `mask_selects`.",
    "transparent": "it has no transparent parts. Make the region transparent, or send `mask_selects` as white.",
}


def require_same_shape(mask: Size, initial: Size, state: RequestState) -> None:
    """Check a mask's size. A mask of the same shape is resized, with a note."""
    if abs(math.log(mask[0] * initial[1] / (mask[1] * initial[0]))) > MAX_SHAPE_DIFFERENCE:
        raise RequestError(
            "unsupported_size",
            f"`mask` is {mask[0]}x{mask[1]}, and `init_image` is {initial[0]}x{initial[1]}. Send a mask of that size.",
            field="mask",
        )
    if mask != initial:
        state.notes.append(f"`mask` was resized from {mask[0]}x{mask[1]} to the size of `init_image`.")
