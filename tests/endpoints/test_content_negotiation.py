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
def test_the_caller_gets_what_it_likes_best(accept: str | None, chosen: str) -> None:
    assert choose(accept, OFFERS) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/avif", "image/png;q=0", "audio/*"])
def test_what_cannot_be_given_is_refused_with_the_list_of_what_can(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match="application/json, image/webp, image/png, image/jpeg"):
        choose(accept, OFFERS)


def test_any_picture_means_the_one_that_was_named() -> None:
    assert choose("image/*", OFFERS, picture="image/jpeg") == "image/jpeg"
