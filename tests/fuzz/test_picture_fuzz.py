# SPDX-License-Identifier: Apache-2.0
"""Damaged picture files: the frontend checks their structure, and the engine decodes them."""

import base64
import os
import random

import pytest
from diffusion_engine.errors import RequestError
from diffusion_engine.fitted_picture import MaskDecoding, PictureDecoding
from diffusion_engine.pictures import examine
from diffusion_engine.placement import Placement
from diffusion_engine.scribble import ScribbleDecoding

from fastapi_triton.core.errors import TooLargeError
from fastapi_triton.endpoints import images
from support import mutations

SEED = int(os.environ.get("FUZZ_SEED", "1"))
FEW, MANY = 100, int(os.environ.get("FUZZ_PICTURES", "20000"))
# The tests' configuration makes Pillow's warnings errors; the engine ignores them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
LIMITS = images.ImageLimits(max_pixels=100_000)


def decode(content: bytes) -> None:
    """As a scribble, as a picture to start from, and as a mask."""
    structure = examine(content, max_pixels=LIMITS.max_pixels)
    place = Placement.of(structure.upright_size, (96, 64))
    for decoding in (
        ScribbleDecoding("auto"),
        PictureDecoding.at(place),
        MaskDecoding.at(place, selects="black", blur=2),
    ):
        decoding.decode(structure.essential(content), structure)


def fuzz(count: int) -> None:
    chance = random.Random(SEED)  # noqa: S311
    num_read = num_decoded = 0
    for number in range(count):
        content = mutations.picture_file(chance)
        try:
            images.check(images.decode(base64.b64encode(content).decode()), LIMITS)
            num_read += 1
        except (TooLargeError, ValueError):  # pydantic reports a ValueError as a problem
            pass
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"number {number} of seed {SEED}: the frontend: {error!r}: {content!r}")
        try:
            decode(content)
            num_decoded += 1
        except RequestError:
            pass
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"number {number} of seed {SEED}: the engine: {error!r}: {content!r}")
    assert count / 20 < num_read < count
    assert count / 20 < num_decoded < count


def test_a_few_damaged_pictures_are_read_or_rejected() -> None:
    fuzz(FEW)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_many_damaged_pictures_are_read_or_rejected() -> None:
    fuzz(MANY)
