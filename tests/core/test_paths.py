# SPDX-License-Identifier: Apache-2.0
"""A route whose path begins like `/v2` belongs to the app: its errors have the app's format."""

from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core import paths
from fastapi_triton.core.shutdown import Phase


@pytest.mark.parametrize(
    ("path", "is_below"), [("/v2", True), ("/v2/", True), ("/v2/models/m", True), ("/v2x", False), ("/v", False)]
)
def test_a_prefix_ends_with_the_path_or_a_slash(path: str, is_below: bool) -> None:
    assert paths.is_below(path, paths.V2) is is_below


async def test_a_route_whose_name_begins_with_v2_belongs_to_the_app() -> None:
    app = TritonFrontend(settings=Settings())

    @app.post("/v2-of-mine")
    def mine() -> dict[str, Any]:
        return {}

    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        missing = await client.get("/v2-of-yours")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert (await client.post("/v2-of-mine")).status_code == 200
        app.drain.reach(Phase.CLOSED)
        closed = await client.post("/v2-of-mine")
        assert (closed.status_code, closed.json()["code"]) == (503, "shutting_down")
