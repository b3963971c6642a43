# SPDX-License-Identifier: Apache-2.0
"""The lists that A1111's clients request before they make pictures."""

from typing import Any

import httpx2


async def lists(client: httpx2.AsyncClient, *names: str) -> list[Any]:
    responses = [await client.get(f"/sdapi/v1/{name}") for name in names]
    assert [each.status_code for each in responses] == [200] * len(names)
    return [each.json() for each in responses]
