# SPDX-License-Identifier: Apache-2.0
"""An idle app sends two requests to Triton in each round of its model registry, however many endpoints it declares."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import orjson
import pytest
from pydantic import BaseModel

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import FastAPITritonError
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton

ROUNDS = 24
TEXT = {"name": "text", "data_type": "TYPE_STRING", "dims": [1]}
EVENTS = b"Content-Type: text/event-stream\r\n"
DESCRIPTION = orjson.dumps({"model_name": "m", "event": "completed", "info": "{}"})


class Text(BaseModel):
    text: str


class IdleTriton:
    """A Triton with these models; every second one describes itself."""

    def __init__(self, names: list[str], *, shows_index: bool) -> None:
        self.names = names
        self.shows_index = shows_index
        self.paths: list[str] = []
        self.changed: set[str] = set()

    async def serve(self, upstream: Upstream) -> None:
        while True:
            head, _ = await upstream.request()
            path = head.split(b" ")[1].decode()
            self.paths.append(path)
            if path == "/v2/repository/index":
                index = [{"name": name, "version": "1", "state": "READY"} for name in self.names]
                await upstream.respond(orjson.dumps(index), status=b"200 OK" if self.shows_index else b"403 Forbidden")
            elif path.endswith("/config"):
                await upstream.respond(orjson.dumps(self._config(path.split("/")[3])))
            elif path.endswith("/generate_stream"):
                await upstream.respond(b"data: %s\n\n" % DESCRIPTION, headers=EVENTS)
            else:
                await upstream.respond(b"")

    def _config(self, name: str) -> dict[str, object]:
        is_stream = name.endswith("_stream")
        describe = [{"name": "describe", "data_type": "TYPE_BOOL", "dims": [1], "optional": True}]
        outputs = [TEXT, {**TEXT, "name": "event"}, {**TEXT, "name": "info"}]
        return {
            "name": name,
            "max_batch_size": 0,
            "input": [{**TEXT, "name": "other" if name in self.changed else "text"}, *(describe if is_stream else [])],
            "output": outputs,
            "model_transaction_policy": {"decoupled": is_stream},
        }


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as triton:
        yield triton


def app_of(scripted: ScriptedTriton, num_endpoints: int) -> TritonFrontend:
    # The test runs the rounds: the app's own first round has ended before, and its next one is an hour later.
    app = TritonFrontend(settings=Settings(triton_url=scripted.url, generate=True, watch_interval_s=3600))
    for number in range(num_endpoints):
        app.infer(f"/{number}", model=f"m{number}", stream_model=f"m{number}_stream", request=Text, response=Text)
    return app


async def poll(app: TritonFrontend) -> None:
    try:
        await app.registry.poll()
    except FastAPITritonError as error:
        assert error.code == "triton_access_denied"  # noqa: PT017


def names(num_endpoints: int) -> list[str]:
    return [name for number in range(num_endpoints) for name in (f"m{number}", f"m{number}_stream")]


@pytest.mark.parametrize("shows_index", [True, False])
@pytest.mark.parametrize("num_endpoints", [1, 5])
async def test_an_idle_app_sends_two_requests_a_round_however_many_endpoints_it_has(
    scripted: ScriptedTriton, num_endpoints: int, *, shows_index: bool
) -> None:
    triton = IdleTriton(names(num_endpoints), shows_index=shows_index)
    scripted.script = triton.serve
    app = app_of(scripted, num_endpoints)
    async with app.router.lifespan_context(app), aclosing(app.readiness.reports()) as reports:
        await poll(app)
        assert (await app.readiness.check()).is_ready
        await anext(reports)  # as `serve` logs them
        for _ in range(ROUNDS):
            triton.paths.clear()
            await poll(app)
            assert len(triton.paths) <= 2, triton.paths


@pytest.mark.parametrize("num_endpoints", [1, 5])
async def test_every_config_and_every_description_is_read_again_in_turn(
    scripted: ScriptedTriton, num_endpoints: int
) -> None:
    triton = IdleTriton(names(num_endpoints), shows_index=True)
    scripted.script = triton.serve
    app = app_of(scripted, num_endpoints)
    async with app.router.lifespan_context(app), aclosing(app.readiness.reports()) as reports:
        await app.readiness.check()
        await anext(reports)
        await app.registry.poll()
        triton.paths.clear()
        for _ in range(4 * len(triton.names) + 4):
            await app.registry.poll()
        arrived = set(triton.paths)
    assert {f"/v2/models/{name}/config" for name in triton.names} <= arrived
    assert {f"/v2/models/m{number}_stream/generate_stream" for number in range(num_endpoints)} <= arrived
    assert "/v2/health/ready" in arrived
