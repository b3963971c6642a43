# SPDX-License-Identifier: Apache-2.0
"""Several checkpoints as several models: listed, and chosen by name on both APIs."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InferenceError, ModelNotReadyError
from fastapi_triton.pictures import picture_models
from fastapi_triton.pictures.a1111 import checkpoints
from fastapi_triton.pictures.a1111.tasks import COOKIE
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from support.scribble_app import MODEL
from support.scripted_stream_model import STREAM_MODEL, ScriptedStreamModel, app_of, stream_model_config

OTHER = "juggernaut"
TXT2IMG, OPTIONS, MODELS = "/sdapi/v1/txt2img", "/sdapi/v1/options", "/sdapi/v1/sd-models"
IMAGES = "/v1/images/generations"
PROMPT = {"prompt": "a red house"}


def add_pair(triton: FakeTriton, public: ModelConfig, name: str, checkpoint: str) -> ScriptedStreamModel:
    """Add a model and its stream model, which describes itself as this checkpoint."""
    stream_model = ScriptedStreamModel()
    stream_model.further_description = {"name": checkpoint}
    stream = f"{name}_stream"
    triton.add(replace(public, name=name, parameters=(("stream_model", stream),)))
    triton.add(replace(stream_model_config(public), name=stream), respond_stream=stream_model)
    return stream_model


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"generate": True})


@pytest.fixture
def triton(scribble_config: ModelConfig) -> FakeTriton:
    fake = FakeTriton()
    add_pair(fake, scribble_config, MODEL, "demo_checkpoint")
    return fake


@pytest.fixture
async def other(triton: FakeTriton, scribble_config: ModelConfig) -> ScriptedStreamModel:
    return add_pair(triton, scribble_config, OTHER, "Juggernaut XL")


@pytest.fixture
def app(triton: FakeTriton, other: ScriptedStreamModel, settings: Settings) -> TritonFrontend:
    return app_of(triton, settings)


@pytest.fixture
async def client(client: httpx2.AsyncClient, app: TritonFrontend) -> httpx2.AsyncClient:
    await app.registry.poll()
    return client


def served_by(triton: FakeTriton) -> list[str]:
    """The models of all requests for pictures."""
    return [model for model, inputs, _ in triton.requests if "describe" not in inputs]


async def ids(client: httpx2.AsyncClient) -> list[str]:
    return [each["id"] for each in (await client.get("/v1/models")).json()["data"]]


async def titles(client: httpx2.AsyncClient) -> list[str]:
    return [each["title"] for each in (await client.get(MODELS)).json()]


async def test_all_models_are_listed(client: httpx2.AsyncClient) -> None:
    assert await ids(client) == [MODEL, OTHER]
    assert await titles(client) == ["demo_checkpoint", "Juggernaut XL"]
    assert (await client.get(f"/v1/models/{OTHER}")).json()["id"] == OTHER


async def test_request_names_its_model(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for body in ({}, {"model": OTHER}, {"model": "Juggernaut XL"}, {"model": "dall-e-3"}, {"model": MODEL}):
        assert (await client.post(IMAGES, json={**PROMPT, **body})).status_code == 200
    assert served_by(triton) == [STREAM_MODEL, f"{OTHER}_stream", f"{OTHER}_stream", STREAM_MODEL, STREAM_MODEL]
    triton.requests.clear()
    async with client.stream("POST", IMAGES, json={**PROMPT, "model": OTHER, "stream": True}) as response:
        assert response.status_code == 200
        await response.aread()
    assert served_by(triton) == [f"{OTHER}_stream"]


async def test_override_settings_name_the_checkpoint(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for name in ("Juggernaut XL", "Juggernaut XL [0123abcd]", OTHER, "demo_checkpoint", ""):
        body = {**PROMPT, "override_settings": {"sd_model_checkpoint": name}}
        response = await client.post(TXT2IMG, json=body)
        assert response.status_code == 200
        assert json.loads(response.json()["info"])["notes"] == []
    assert served_by(triton) == 3 * [f"{OTHER}_stream"] + 2 * [STREAM_MODEL]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (IMAGES, {"model": "jugernaut"}, 404, 'no model "jugernaut"; did you mean `juggernaut`?'),
        (IMAGES, {"model": "flux"}, 404, 'no model "flux"; known are `sdxl_scribble_controlnet`, `juggernaut`.'),
        (
            TXT2IMG,
            {"override_settings": {"sd_model_checkpoint": "juggernaut-xl"}},
            422,
            'no checkpoint "juggernaut-xl"; did you mean `Juggernaut XL`?',
        ),
        (TXT2IMG, {"override_settings": {"sd_model_checkpoint": 7}}, 422, 'no checkpoint "7"; known are'),
        (IMAGES, {"model": "everything"}, 404, "no model"),
    ],
)
async def test_unknown_name_is_rejected_with_the_nearest_one(
    client: httpx2.AsyncClient, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    response = await client.post(path, json={**PROMPT, **body})
    assert response.status_code == status
    content = response.json()
    assert words in (content["detail"] if path == TXT2IMG else content["error"]["message"])


async def test_option_chooses_the_checkpoint_of_one_client(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    assert (await client.post(OPTIONS, json={"sd_model_checkpoint": "Juggernaut XL"})).json() is None
    assert (await client.get(OPTIONS)).json()["sd_model_checkpoint"] == "Juggernaut XL"
    await client.post(TXT2IMG, json=PROMPT)
    await client.post(TXT2IMG, json={**PROMPT, "override_settings": {"sd_model_checkpoint": "demo_checkpoint"}})
    await client.post(TXT2IMG, json=PROMPT, auth=("another", "client"))
    assert served_by(triton) == [f"{OTHER}_stream", STREAM_MODEL, STREAM_MODEL]
    assert (await client.post(OPTIONS, json={"sd_model_checkpoint": "demo_checkpoint"})).json() is None
    await client.post(TXT2IMG, json=PROMPT)
    assert served_by(triton)[3:] == [STREAM_MODEL]


async def test_each_listed_title_can_be_chosen_where_checkpoints_have_equal_names(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, scribble_config: ModelConfig
) -> None:
    add_pair(triton, scribble_config, "twin", "demo_checkpoint")
    await app.registry.poll()
    assert await titles(client) == ["demo_checkpoint", "Juggernaut XL", "twin"]
    served = {"demo_checkpoint": STREAM_MODEL, "Juggernaut XL": f"{OTHER}_stream", "twin": "twin_stream"}
    for title in ("twin", "demo_checkpoint", "Juggernaut XL", "twin"):
        assert (await client.post(OPTIONS, json={"sd_model_checkpoint": title})).json() is None
        assert (await client.get(OPTIONS)).json()["sd_model_checkpoint"] == title
        await client.post(TXT2IMG, json=PROMPT)
        assert served_by(triton)[-1] == served[title]


async def test_the_default_can_be_chosen_while_the_earlier_choice_is_not_loaded(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton
) -> None:
    await client.post(OPTIONS, json={"sd_model_checkpoint": OTHER})
    models = [triton.models.pop(name) for name in (OTHER, f"{OTHER}_stream")]
    await app.registry.poll()
    assert (await client.post(OPTIONS, json={"sd_model_checkpoint": "demo_checkpoint"})).json() is None
    triton.models |= {each.config.name: each for each in models}
    await app.registry.poll()
    response = await client.post(TXT2IMG, json=PROMPT)
    assert (response.json()["notes"], served_by(triton)) == ([], [STREAM_MODEL])


async def test_a_flood_of_choices_leaves_those_of_others(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_MAX_CHOICES", 5)
    transport = httpx2.ASGITransport(app=app, client=("10.0.0.2", 1234))
    async with httpx2.AsyncClient(transport=transport, base_url="http://t") as flood:
        for each in (client, flood):
            each.cookies.set(COOKIE, "mine")
            await each.post(OPTIONS, json={"sd_model_checkpoint": OTHER})
        for number in range(10):
            flood.cookies.set(COOKIE, f"invented-{number}")
            headers = {"Authorization": f"Bearer invented-{number}"}
            assert (await flood.post(OPTIONS, json={"sd_model_checkpoint": OTHER}, headers=headers)).status_code == 200
        flood.cookies.set(COOKIE, "mine")
        for each in (client, flood):
            await each.post(TXT2IMG, json=PROMPT)
    assert served_by(triton) == [f"{OTHER}_stream", STREAM_MODEL]


async def test_a_choice_in_use_outlasts_later_ones_of_its_caller(
    client: httpx2.AsyncClient, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_MAX_CHOICES", 2)
    for session in ("mine", "a", "b", "c"):
        client.cookies.set(COOKIE, session)
        await client.post(OPTIONS, json={"sd_model_checkpoint": OTHER})
        client.cookies.set(COOKIE, "mine")
        await client.post(TXT2IMG, json=PROMPT)
    assert served_by(triton) == [f"{OTHER}_stream"] * 4


async def test_model_joins_and_leaves_as_triton_loads_it(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, scribble_config: ModelConfig
) -> None:
    await client.post(OPTIONS, json={"sd_model_checkpoint": OTHER})
    add_pair(triton, scribble_config, "newest", "Juggernaut XL")  # the same checkpoint, so the model's name is shown
    models = [triton.models.pop(name) for name in (OTHER, f"{OTHER}_stream")]
    await app.registry.poll()
    assert await ids(client) == [MODEL, "newest"]
    assert (await client.post(IMAGES, json={**PROMPT, "model": OTHER})).status_code in (404, 503)
    assert (await client.get(OPTIONS)).json()["sd_model_checkpoint"] == "demo_checkpoint"
    (note,) = (await client.post(TXT2IMG, json=PROMPT)).json()["notes"]
    assert note == f"The chosen model {OTHER} is not available; {MODEL} was used."
    triton.models |= {each.config.name: each for each in models}
    await app.registry.poll()
    assert await ids(client) == [MODEL, OTHER, "newest"]
    assert await titles(client) == ["demo_checkpoint", "Juggernaut XL", "newest"]
    assert (await client.get(OPTIONS)).json()["sd_model_checkpoint"] == "Juggernaut XL"  # still chosen


async def test_model_that_is_loading_is_not_unknown(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, scribble_config: ModelConfig
) -> None:
    add_pair(triton, scribble_config, "large", "Large")
    triton.models["large"].is_ready = False
    await app.registry.poll()
    assert "large" not in await ids(client)
    response = await client.post(IMAGES, json={**PROMPT, "model": "large"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, ModelNotReadyError.default_code)


async def test_a_model_that_hangs_is_left_out_of_the_checkpoints(
    client: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    scribble_config: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hangs(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        await asyncio.Event().wait()
        yield {}

    await titles(client)  # the others' descriptions are kept
    monkeypatch.setattr(picture_models, "_DESCRIBE_TIMEOUT_S", 0.05)
    add_pair(triton, scribble_config, "stuck", "Stuck")
    triton.models["stuck_stream"].respond_stream = hangs
    await app.registry.poll()
    assert await titles(client) == ["demo_checkpoint", "Juggernaut XL"]
    assert await ids(client) == [MODEL, OTHER, "stuck"]


async def test_all_models_are_asked_for_their_descriptions_at_once(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, scribble_config: ModelConfig
) -> None:
    all_asked, num_responses = asyncio.Barrier(2), 0

    async def responds_with_the_others(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        nonlocal num_responses
        await all_asked.wait()
        num_responses += 1
        raise InferenceError("no description")
        yield {}

    for name in ("third", "fourth"):
        add_pair(triton, scribble_config, name, name)
        triton.models[f"{name}_stream"].respond_stream = responds_with_the_others
    await app.registry.poll()
    assert await titles(client) == ["demo_checkpoint", "Juggernaut XL"]
    assert num_responses == 2


async def test_models_with_other_tensors_stay_out(
    client: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    scribble_config: ModelConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_pair(triton, replace(scribble_config, inputs=scribble_config.inputs[1:]), "without_prompt", "x")
    triton.add(replace(scribble_config, name="without_stream", parameters=()))
    triton.add(replace(scribble_config, name="lost_stream", parameters=(("stream_model", "nowhere"),)))
    with caplog.at_level("INFO"):
        await app.registry.poll()
    assert await ids(client) == [MODEL, OTHER]
    (line,) = [each.getMessage() for each in caplog.records if "cannot be used like" in each.getMessage()]
    assert line.startswith(f"without_prompt cannot be used like {MODEL}:")
    assert "`ScribbleRequest.prompt`: the model without_prompt has no input of that name" in line


async def test_a_busy_model_does_not_turn_away_requests_to_another(
    client: httpx2.AsyncClient, triton: FakeTriton, other: ScriptedStreamModel
) -> None:
    other.go_on.clear()
    waiting = asyncio.create_task(client.post(IMAGES, json={**PROMPT, "model": OTHER, "n": 2}))  # all of its slots
    await other.has_request.wait()
    assert (await client.post(IMAGES, json={**PROMPT, "model": OTHER})).status_code == 503
    assert (await client.post(IMAGES, json=PROMPT)).status_code == 200
    other.go_on.set()
    assert (await waiting).status_code == 200


async def test_without_generated_endpoints_only_declared_models_are_offered(
    triton: FakeTriton, other: ScriptedStreamModel, settings: Settings
) -> None:
    app = app_of(triton, settings.model_copy(update={"generate": False}))
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        await app.registry.poll()
        assert await ids(client) == [MODEL]
        assert (await client.post(IMAGES, json={**PROMPT, "model": OTHER})).status_code == 404


async def test_declared_endpoints_with_the_same_fields_are_offered_too(
    triton: FakeTriton, settings: Settings, scribble_config: ModelConfig
) -> None:
    app = app_of(triton, settings)
    for name in ("second", "third"):
        add_pair(triton, scribble_config, name, name)
    app.infer(
        "/second",
        model="second",
        stream_model="second_stream",
        request=main.ScribbleRequest,
        response=main.ScribbleResponse,
    )
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        await app.registry.poll()
        assert await ids(client) == [MODEL, "second", "third"]
        assert {endpoint.model for endpoint in app.endpoints} == {MODEL, "second"}
