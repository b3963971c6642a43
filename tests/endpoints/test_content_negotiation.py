# SPDX-License-Identifier: Apache-2.0
"""Accept headers, by RFC 9110."""

import pytest

from fastapi_triton.core.errors import NotAcceptableError
from fastapi_triton.endpoints.content_negotiation import JSON, PICTURES, choose

OFFERS = (JSON, *PICTURES)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/webp"),
        ("application/*", JSON),
        ("image/png, application/json", "image/png"),
        ("application/json;q=0.5, image/jpeg;q=0.9", "image/jpeg"),
        ("image/avif, image/webp;q=0.8, */*;q=0.1", "image/webp"),
        ("text/html, */*", JSON),
        ("application/json;q=0, */*", "image/webp"),
        ("image/png;q=nonsense, image/jpeg", "image/jpeg"),
    ],
)
def test_the_client_gets_the_media_type_that_it_prefers(accept: str | None, chosen: str) -> None:
    assert choose(accept, OFFERS) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/avif", "image/png;q=0", "audio/*"])
def test_the_error_of_an_unknown_media_type_lists_the_available_ones(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match="application/json, image/webp, image/png, image/jpeg"):
        choose(accept, OFFERS)


def test_accept_of_any_picture_selects_the_named_format() -> None:
    assert choose("image/*", OFFERS, picture="image/jpeg") == "image/jpeg"
