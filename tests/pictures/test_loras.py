# SPDX-License-Identifier: Apache-2.0
"""LoRAs in all APIs: a list of objects, tags in A1111's prompts, and the ends of OpenAI's model names."""

import json
from typing import Any

import httpx2
import pytest

from fastapi_triton.pictures.a1111 import errors as a1111_errors
from fastapi_triton.testing import FakeTriton
from support.scribble_app import MODEL, PATH, base64_picture
from support.scripted_stream_model import ScriptedStreamModel, stream_inputs

GENERATIONS, TXT2IMG = "/v1/images/generations", "/sdapi/v1/txt2img"
LORAS = [
    {"name": "broken", "trigger_words": "", "unusable": "It is for SDXL."},
    {"name": "ink", "trigger_words": "ink drawing", "unusable": ""},
    {"name": "water colour", "trigger_words": "", "unusable": ""},
]


@pytest.fixture(autouse=True)
def _described(stream_model: ScriptedStreamModel) -> None:
    stream_model.further_description = {"loras": LORAS}


async def inputs_of(client: httpx2.AsyncClient, triton: FakeTriton, path: str, **body: Any) -> dict[str, Any]:
    response = await client.post(path, json={"prompt": "a red house", **body})
    assert response.status_code == 200, response.text
    return stream_inputs(triton)[-1]


@pytest.mark.parametrize("loras", [[{"name": "ink", "scale": 0.5}, {"name": "é"}], []])
async def test_a_list_of_objects_is_sent_as_json(
    socket_client: httpx2.AsyncClient, triton: FakeTriton, loras: list[dict[str, Any]]
) -> None:
    body = {"prompt": "a red house", "image": base64_picture(), "loras": loras}
    async with socket_client.stream("POST", PATH, json=body, headers={"Accept": "text/event-stream"}) as response:
        await response.aread()
    sent = json.loads(stream_inputs(triton)[-1]["loras"])
    assert sent == [{"scale": 1.0, **each} for each in loras]


@pytest.mark.parametrize(
    ("loras", "field"),
    [
        ([{"name": "ink", "scale": 9}], "#/loras/0/scale"),
        ([{"scale": 1}], "#/loras/0/name"),
        ("ink", "#/loras"),
        ([{"name": "ink", "weight": 1}], "#/loras/0/weight"),
    ],
)
async def test_invalid_lists_are_rejected(socket_client: httpx2.AsyncClient, loras: Any, field: str) -> None:
    response = await socket_client.post(PATH, json={"prompt": "a", "image": base64_picture(), "loras": loras})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == field
    assert "prompt" not in error["detail"]  # members of the body are no members of a LoRA


@pytest.mark.parametrize(
    ("prompt", "left", "loras", "notes"),
    [
        ("a <lora:ink:0.8> house", "a  house", [("ink", 0.8)], 0),
        ("a house <lora:ink>", "a house", [("ink", 1.0)], 0),
        ("<lora:ink:-0.5>a<lora:water colour:1.2:1.2>", "a", [("ink", -0.5), ("water colour", 1.2)], 0),
        ("a <lora:ink:0.5:0.8>", "a", [("ink", 0.8)], 1),
        ("a <lora:ink:te=0:unet=0.8:dyn=4>", "a", [("ink", 0.8)], 2),
        ("a <lora:<lora:ink:1>:1>", "a <lora::1>", [("ink", 1.0)], 0),
        ("a <lora:ink:0.8:start=5:stop=9>", "a", [("ink", 0.8)], 1),
        ("a <lora:ink:weight=0.2>", "a", [("ink", 1.0)], 1),
        ("a <lora:ink:0.8:lbw=MIDD> <lora:ink:lbw=OUTALL>", "a", [("ink", 0.8), ("ink", 1.0)], 1),
        ("a <lora:ink:lbw=ALL:0.8>", "a", [("ink", 0.8)], 1),
        ("a <lora:ink:1:1:1:1>", "a", [("ink", 1.0)], 1),
        ("a <lyco:ink:0.8> house", "a  house", [("ink", 0.8)], 0),
        ("<hypernet:x:1>a <lora:ink><hypernet:x:1><lora: :1>", "a", [("ink", 1.0)], 1),
    ],
)
async def test_a1111s_tags_are_taken_out_of_the_prompt(
    socket_client: httpx2.AsyncClient,
    triton: FakeTriton,
    prompt: str,
    left: str,
    loras: list[tuple[str, float]],
    notes: int,
) -> None:
    response = await socket_client.post(TXT2IMG, json={"prompt": prompt})
    assert response.status_code == 200, response.text
    sent = stream_inputs(triton)[-1]
    assert sent["prompt"] == left
    assert json.loads(sent["loras"]) == [{"name": name, "scale": scale} for name, scale in loras]
    assert len(response.json()["notes"]) == notes
    assert json.loads(response.json()["info"])["prompt"] == prompt


async def test_tags_of_other_networks_are_no_text(socket_client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    prompt = "a <hypernet:x:1> house <lora:ink:lbw=1>" + "".join(f"<kind{n}:x>" for n in range(50))
    lbw, others = (await socket_client.post(TXT2IMG, json={"prompt": prompt})).json()["notes"]
    assert stream_inputs(triton)[-1]["prompt"] == "a  house"
    assert lbw == "Of LoRA tags, only te and unet are supported; ignored: lbw."
    assert others.startswith("Only tags of LoRAs are supported; ignored: <hypernet:x:1>, <kind0:x>, ")
    assert others.endswith(", <kind18:x> and 31 more.")
    await inputs_of(socket_client, triton, TXT2IMG, prompt="<hypernet:x:1> a house")
    assert "loras" not in stream_inputs(triton)[-1]


async def test_prompts_without_tags_stay_as_they_are(socket_client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    sent = await inputs_of(socket_client, triton, TXT2IMG, prompt=" a < b > c <lora> ")
    assert sent["prompt"] == " a < b > c <lora> "
    assert "loras" not in sent


async def test_a_tag_in_the_negative_prompt_is_noted(socket_client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = {"prompt": "a house", "negative_prompt": "blue <lora:ink:1>"}
    response = await socket_client.post(TXT2IMG, json=body)
    assert stream_inputs(triton)[-1]["negative_prompt"] == "blue <lora:ink:1>"
    assert any("<lora:ink:1> in the negative prompt is read as text" in note for note in response.json()["notes"])


async def test_a1111s_scale_must_be_a_number(socket_client: httpx2.AsyncClient) -> None:
    response = await socket_client.post(TXT2IMG, json={"prompt": "a <lora:ink:much>"})
    assert response.status_code == 422
    assert "'much'" in response.text or "much" in response.text


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a red house <lora:ink:1:1" + ":1" * 50_000 + ">", "`prompt` must have at most 65,536 characters"),
        ("a red house <lora:ink:1:1" + ":1" * 7 + ">", "<lora:ink> has 9 arguments"),
        ("a red house" + "<lora:ink>" * 101, "`prompt` has more than 100 LoRA tags"),
    ],
)
async def test_a1111s_tags_are_counted_before_they_are_read(
    socket_client: httpx2.AsyncClient, triton: FakeTriton, prompt: str, words: str
) -> None:
    response = await socket_client.post(TXT2IMG, json={"prompt": prompt})
    body = response.json()
    assert (response.status_code, body["code"], body["errors"][0]["pointer"]) == (422, "too_long", "#/prompt")
    assert words in body["detail"]
    assert not stream_inputs(triton)


async def test_an_argument_of_many_tags_is_noted_once(socket_client: httpx2.AsyncClient) -> None:
    prompt = "a house" + "<lora:ink:1:1:4:4:4>" * 5
    (note,) = (await socket_client.post(TXT2IMG, json={"prompt": prompt})).json()["notes"]
    assert "dyn" in note


async def test_a1111s_list_has_the_usable_loras(socket_client: httpx2.AsyncClient) -> None:
    listed = (await socket_client.get("/sdapi/v1/loras")).json()
    assert [(each["name"], each["alias"], each["metadata"]) for each in listed] == [
        ("ink", "ink", {"modelspec.trigger_phrase": "ink drawing"}),
        ("water colour", "water colour", {}),
    ]
    assert all(each["path"].endswith(".safetensors") for each in listed)


@pytest.mark.parametrize(("end", "scale"), [(":ink", 1.0), (":ink:0.4", 0.4), (":ink:-2", -2.0)])
async def test_a_model_name_of_openai_may_end_with_a_lora(
    socket_client: httpx2.AsyncClient, triton: FakeTriton, end: str, scale: float
) -> None:
    sent = await inputs_of(socket_client, triton, GENERATIONS, model=f"{MODEL}{end}", loras=[{"name": "a", "scale": 2}])
    assert json.loads(sent["loras"]) == [{"name": "a", "scale": 2.0}, {"name": "ink", "scale": scale}]


@pytest.mark.parametrize(("model", "status"), [(f"{MODEL}:ink:much", 400), ("unknown:ink", 404)])
async def test_invalid_model_names_are_rejected(socket_client: httpx2.AsyncClient, model: str, status: int) -> None:
    response = await socket_client.post(GENERATIONS, json={"prompt": "a", "model": model})
    assert (response.status_code, response.json()["error"]["param"]) == (status, "model")


async def test_openais_list_of_models_has_the_loras(socket_client: httpx2.AsyncClient) -> None:
    listed = (await socket_client.get("/v1/models")).json()["data"]
    assert [(each["id"], each.get("parent")) for each in listed] == [
        (MODEL, None),
        (f"{MODEL}:ink", MODEL),
        (f"{MODEL}:water colour", MODEL),
    ]
    one = await socket_client.get(f"/v1/models/{MODEL}:ink")
    assert (one.status_code, one.json()["id"], one.json()["parent"]) == (200, f"{MODEL}:ink", MODEL)
    assert (await socket_client.get(f"/v1/models/{MODEL}:broken")).status_code == 404


def test_a1111s_errors_name_the_prompt_in_which_the_tag_was() -> None:
    assert a1111_errors.renamed("`loras` names 'x'; the nearest name is 'ink'.").startswith("`prompt` names 'x'")


async def test_openais_models_are_found_with_a_lora_and_its_scale(client: httpx2.AsyncClient) -> None:
    for name in (f"{MODEL}:ink", f"{MODEL}:ink:0.8", f"{MODEL}:water colour:-1"):
        found = (await client.get(f"/v1/models/{name}")).json()
        assert (found["id"], found["parent"]) == (name, MODEL)
    for name, status, code in (
        (f"{MODEL}:broken", 404, "model_not_found"),
        (f"{MODEL}:ink:thick", 400, "invalid_value"),
    ):
        response = await client.get(f"/v1/models/{name}")
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
