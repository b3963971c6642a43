# SPDX-License-Identifier: Apache-2.0
"""`config.pbtxt` files with random changes of characters: we can read them if and only if Triton can."""

import random
from pathlib import Path

import aiohttp
import pytest
from config_cases.case import MODEL, inert

from fastapi_triton.triton import config_text
from support.loading_triton import LoadingTriton, compile_inert_backend

NUM_TEXTS = 1000
TEXT = inert(r"""
max_batch_size: 8  # comment
parameters { key: "k" value: { string_value: "a\u00e9\x41\101\n" } }
parameters < key: 'j' value < string_value: "b" 'c' > >
version_policy: { latest { num_versions: 0x1 } };
dynamic_batching { preferred_batch_size: [ 4, 010 ] max_queue_delay_microseconds: 100, preserve_ordering: true }
""")
PARTS = [
    *"\"'\\{}[]<>:;,#+-.$/_ \n\t\r\v\f\0\x01\x1f\x7f0123789abefuxXUE",
    *"\u00a0\u2028\u200b\ufeff“\u0668",
    *("1e5", "0x", "08", r"\u00", r"\x", r"\U0010ffff", r"\7", "inf", "1.", "1f", "${a}", "max_batch_size: 8 "),
]


def changed(text: str, rng: random.Random) -> str:
    """The text after a few changes, each of which inserts, replaces or removes a part."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        start = rng.randrange(len(text) + 1)
        removed = rng.choice((0, 0, 1, 1, 2, 5))
        inserted = rng.choice(PARTS) if rng.random() < 0.7 else ""
        text = text[:start] + inserted + text[start + removed :]
    return text


def is_readable(text: str) -> bool:
    try:
        config_text.parse(text)
    except config_text.ConfigTextError:
        return False
    return True


@pytest.mark.integration
@pytest.mark.slow
async def test_triton_can_read_the_same_random_texts(tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311
    models = tmp_path / "models"
    (models / MODEL / "1").mkdir(parents=True)
    triton = LoadingTriton.prepare(models)
    triton.inert_library = compile_inert_backend(tmp_path)
    disagreements, num_readable = [], 0
    async with triton, aiohttp.ClientSession(triton.url) as session:
        await triton.until_live(session)
        for _ in range(NUM_TEXTS):
            text = changed(TEXT, rng)
            (models / MODEL / "config.pbtxt").write_bytes(text.encode())
            reason = await triton.load(session, MODEL)
            can_read = "failed to read text proto" not in reason
            num_readable += can_read
            if is_readable(text) != can_read:
                disagreements.append((text, reason))
            await triton.unload_all(session)
    assert not disagreements
    assert NUM_TEXTS / 20 < num_readable < NUM_TEXTS / 2
