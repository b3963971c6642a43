# SPDX-License-Identifier: Apache-2.0
"""Chooses the media type of a response by the Accept header."""

from collections.abc import Sequence

from fastapi_triton.core.errors import NotAcceptableError, shown

JSON = "application/json"
EVENTS = "text/event-stream"
PICTURES = ("image/webp", "image/png", "image/jpeg")
# Their names in a model's field `output_format`.
FORMAT_NAMES = {"image/webp": "webp", "image/png": "png", "image/jpeg": "jpeg"}


def choose(accept: str | None, offers: Sequence[str], *, picture: str = "image/webp") -> str:
    """The offer with the highest quality in the header; of equals, the first in the header.

    `picture` is the media type that `image/*` means. Without a header, or with `*/*`, it is the first offer.

    Raises:
        NotAcceptableError: the client accepts none of the offers.
    """
    if not accept or not accept.strip():
        return offers[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    excluded = {media for media, quality in ranges if quality == 0}
    allowed = [each for each in offers if each not in excluded]
    for media, quality in sorted(ranges, key=lambda each: -each[1]):  # a stable sort
        offer = _offer(media, allowed, picture) if quality else None
        if offer is not None:
            return offer
    raise NotAcceptableError(f"This endpoint cannot return {shown(accept)}. Accept one of {', '.join(offers)}.")


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media, float(value)
            except ValueError:
                return media, 0.0
    return media, 1.0


def _offer(media: str, offers: Sequence[str], picture: str) -> str | None:
    if media == "*/*":
        return offers[0] if offers else None
    if media.endswith("/*"):
        family = media[:-1]
        fitting = [offer for offer in offers if offer.startswith(family)]
        return picture if picture in fitting else next(iter(fitting), None)
    return media if media in offers else None
