# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints of models that take and return pictures, in front of a fake Triton: forms, PNG, descriptions."""

import base64
import io
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.endpoints import image_tensors
from fastapi_triton.endpoints.generated import openapi
from fastapi_triton.endpoints.images import SCRIBBLE
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig, from_server
from fastapi_triton.triton.tensor import Tensor
from support.echo_models import echo, model, tensor
from support.picture_bombs import as_file
from support.problems import problem_of

SETTINGS = Settings(generate=True, watch_interval_s=3600, max_json_elements=1000, max_body_bytes=200_000)
RANDOM = np.random.default_rng(7)
COLOURS = Image.fromarray(RANDOM.integers(0, 256, (6, 4, 3), np.uint8))
PIXELS = np.asarray(COLOURS)
PNG = as_file(COLOURS)
TEXT = base64.b64encode(PNG).decode()
FILE = ("photo.png", PNG, "image/png")
UPSCALER = model("upscaler", tensor("image", "UINT8", (-1, -1, 3)), tensor("factor", dims=(1,), optional=True), batch=4)
CLASSIFIER = ModelConfig(
    "classifier",
    0,
    (
        TensorConfig("data_0", BY_WIRE["FP32"], (1, 3, 6, 4), normalize="imagenet"),
        tensor("boxes", "INT32", (-1, 4), optional=True),
        tensor("words", "BYTES", (1,), optional=True),
    ),
    (tensor("scores", dims=(2,)),),
)
STYLES = model("styles", tensor("a", "FP32", (3, -1, -1)), tensor("b", "FP32", (-1, -1, -1, 3), optional=True))


async def scores(inputs: Tensors) -> dict[str, Tensor]:
    return {"scores": Tensor(BY_WIRE["FP32"], np.array([inputs["data_0"].array.mean(), 1], np.float32))}


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    for config, respond in ((UPSCALER, echo), (CLASSIFIER, scores), (STYLES, echo)):
        fake.add(config, respond)
    fake.add(model("plain", tensor("x")), echo)
    fake.add(ModelConfig("reader", 0, (TensorConfig("page", BY_WIRE["BYTES"], (1,), content="image"),), ()), echo)
    return fake


@pytest.fixture
async def http(triton: FakeTriton) -> AsyncIterator[httpx2.AsyncClient]:
    app = TritonFrontend(triton=triton, settings=SETTINGS)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.registry.poll()
        yield client


def sent(triton: FakeTriton, name: str) -> np.ndarray[Any, Any]:
    return triton.requests[-1][1][name].array


def pixels(png: bytes) -> Any:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    return np.asarray(picture)


async def test_a_file_becomes_the_tensor(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    response = await http.post("/models/classifier/infer", files={"data_0": FILE})
    assert response.status_code == 200, response.text
    wanted = (PIXELS / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(sent(triton, "data_0"), wanted.transpose(2, 0, 1)[None], rtol=1e-5, atol=1e-6)
    await http.post("/models/classifier/infer?normalize=none", files={"data_0": FILE})
    np.testing.assert_array_equal(sent(triton, "data_0"), PIXELS.transpose(2, 0, 1)[None])


async def test_the_other_fields_of_a_form_are_json_or_text(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    fields = {"boxes": "[[1, 2, 3, 4]]", "words": "[a cat"}
    await http.post("/models/classifier/infer", files={"data_0": FILE}, data=fields)
    assert sent(triton, "boxes").tolist() == [[1, 2, 3, 4]]
    assert sent(triton, "words").tolist() == [b"[a cat"]
    array = io.BytesIO()
    np.save(array, np.ones((1, 3, 6, 4), np.float32))
    await http.post("/models/classifier/infer", files={"data_0": ("a.npy", array.getvalue())})
    assert sent(triton, "data_0").sum() == 72
    await http.post("/models/classifier/infer", files={"boxes": ("b.json", b"[]")}, data={"data_0": TEXT})
    assert sent(triton, "boxes").shape == (0, 4)


async def test_pictures_are_decoded_in_a_few_threads(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, decode = set(), image_tensors._decoded

    def decoded(*arguments: Any) -> Any:
        threads.add(threading.current_thread().name.partition("_")[0])
        return decode(*arguments)

    monkeypatch.setattr(image_tensors, "_decoded", decoded)
    await http.post("/models/classifier/infer", files={"data_0": FILE})
    await http.post("/models/classifier/infer", json={"data_0": TEXT})
    assert threads == {"pictures"}


async def test_a_stream_of_pictures(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    async def twice(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        yield dict(inputs)
        yield dict(inputs)

    triton.add(model("video", tensor("frame", "UINT8", (3, 6, -1)), decoupled=True), respond_stream=twice)
    await http._transport.app.registry.poll()  # type: ignore[attr-defined]
    response = await http.post("/models/video/infer?arrays=png", files={"frame": FILE})
    frames = [json.loads(line[6:])["frame"] for line in response.text.splitlines() if line.startswith('data: {"frame')]
    assert [pixels(base64.b64decode(each)).tolist() for each in frames] == [PIXELS.tolist()] * 2
    problem_of(await http.post("/models/video/infer", files={"frame": FILE}, headers={"Accept": "image/png"}), 406)


async def test_base64_in_json_is_the_same_request(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for value in (TEXT, f"data:image/png;base64,{TEXT}", [TEXT]):
        response = await http.post("/models/classifier/infer", json={"data_0": value})
        assert response.status_code == 200, response.text
        assert sent(triton, "data_0").shape == (1, 3, 6, 4)


async def test_several_files_are_a_batch(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    other = ("other.png", as_file(COLOURS.rotate(180)), "image/png")
    files = [("image", FILE), ("image", other)]
    response = await http.post("/models/upscaler/infer?arrays=png", files=files, data={"factor": "2"})
    assert [pixels(base64.b64decode(row["image"])).tolist() for row in response.json()] == [
        PIXELS.tolist(),
        PIXELS[::-1, ::-1].tolist(),
    ]
    assert sent(triton, "factor").tolist() == [[2], [2]]
    await http.post("/models/upscaler/infer", files=files, data={"factor": ["2", "3"]})
    assert sent(triton, "factor").tolist() == [[2], [3]]
    problem = problem_of(
        await http.post("/models/upscaler/infer", files=[*files, files[0]], data={"factor": ["2", "3"]}), 422
    )
    assert (problem["code"], "3 rows" in problem["detail"]) == ("repeated_field", True)
    problem = problem_of(await http.post("/models/upscaler/infer", files=[("image", FILE)] * 5), 422)
    assert "takes 1 to 4" in problem["detail"]


async def test_several_files_without_batches_need_a_dimension(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    await http.post("/models/styles/infer", files=[("a", FILE), ("b", FILE), ("b", FILE)])
    assert sent(triton, "b").shape == (2, 6, 4, 3)
    problem = problem_of(await http.post("/models/styles/infer", files=[("a", FILE), ("a", FILE)]), 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("#/a", "repeated_field")]


@pytest.mark.parametrize(
    ("files", "fields", "status", "pointer", "code"),
    [
        ({}, {"boxes": "[]"}, 422, "#/data_0", "missing_field"),
        ({"data_0": FILE, "bxes": FILE}, {}, 422, "#/bxes", "unknown_field"),
        ({"data_0": FILE}, {"boxes": "[1"}, 400, "#/boxes", "invalid_json"),
        ({"data_0": FILE}, {"boxes": '[], "words": "injected"'}, 400, "#/boxes", "invalid_json"),
        ({"data_0": FILE}, {"boxes": "[1]"}, 422, "#/boxes/0", "wrong_type"),
        ({"data_0": ("a.txt", b"hello")}, {}, 422, "#/data_0", "not_an_image"),
        ({}, {"data_0": "my cat.JPG"}, 422, "#/data_0", "not_an_image"),
        ({}, {"data_0": "http://a/cat.jpg"}, 422, "#/data_0", "invalid_base64"),
        ({"data_0": FILE}, {"boxes": "[" + "1," * 2000 + "1]"}, 413, None, "too_many_elements"),
    ],
)
async def test_problems_of_a_form_name_the_field(
    http: httpx2.AsyncClient, files: Any, fields: Any, status: int, pointer: str | None, code: str
) -> None:
    response = await http.post("/models/classifier/infer", files=files or {"words": (None, "x")}, data=fields)
    problem = problem_of(response, status)
    assert problem["code"] == code
    assert [each["pointer"] for each in problem.get("errors", ())] == ([pointer] if pointer else [])


async def test_only_models_that_take_pictures_accept_forms(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    problem = problem_of(await http.post("/models/plain/infer", files={"x": FILE}), 415)
    assert "multipart" not in problem["detail"].partition(";")[2]
    problem = problem_of(
        await http.post("/models/styles/infer", content=PNG, headers={"Content-Type": "image/png"}), 415
    )
    assert "a form as multipart/form-data" in problem["detail"]
    assert (await http.post("/models/reader/infer", files={"page": FILE})).status_code == 200
    assert sent(triton, "page").tolist() == [PNG]


async def test_a_picture_is_returned_as_a_file(http: httpx2.AsyncClient) -> None:
    path, headers = "/models/upscaler/infer", {"Accept": "image/png"}
    response = await http.post(path, files={"image": FILE}, headers=headers)
    assert (response.headers["content-type"], response.headers["vary"]) == ("image/png", "Accept")
    np.testing.assert_array_equal(pixels(response.content), PIXELS)
    response = await http.post(path, json=[{"image": TEXT}], headers={"Accept": "image/*"})
    np.testing.assert_array_equal(pixels(response.content), PIXELS)
    response = await http.post(path, json={"image": TEXT})
    assert response.json() == {"image": PIXELS.tolist()}


async def test_406_says_why_there_is_no_picture_and_names_the_other_way(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    headers = {"Accept": "image/png"}
    problem = problem_of(await http.post("/models/classifier/infer", json={"data_0": TEXT}, headers=headers), 406)
    assert "No output of classifier holds a picture" in problem["detail"]
    problem = problem_of(await http.post("/models/styles/infer", json={"a": TEXT}, headers=headers), 406)
    assert "`a` and `b`" in problem["detail"]
    assert "?arrays=png" in problem["detail"]
    rows = [{"image": TEXT}] * 2
    problem = problem_of(await http.post("/models/upscaler/infer", json=rows, headers=headers), 406)
    assert "2 rows" in problem["detail"]
    assert "?arrays=png" in problem["detail"]
    assert triton.requests == []
    accepts_both = {"Accept": "image/png, application/json"}
    assert len((await http.post("/models/upscaler/infer", json=rows, headers=accepts_both)).json()) == 2


async def test_classes_are_not_left_out_of_a_picture(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    triton.add(model("masks", tensor("mask", "UINT8", (4, 4, 3)), tensor("s", "FP32", (3,), optional=True)), echo)
    await http._transport.app.registry.poll()  # type: ignore[attr-defined]
    path, files = "/models/masks/infer?classes=1", {"mask": FILE}
    problem = problem_of(await http.post(path, files=files, headers={"Accept": "image/png"}), 406)
    assert "omit `classes`" in problem["detail"]
    accepts_both = {"Accept": "image/png, application/json;q=0.5"}
    response = await http.post(path, files=files, headers=accepts_both)
    assert response.headers["content-type"] == "application/json"


async def test_several_pictures_in_one_output_are_no_png(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    triton.add(model("frames", tensor("frame", "UINT8", (-1, -1, -1, 3))), echo)
    await http._transport.app.registry.poll()  # type: ignore[attr-defined]
    headers = {"Accept": "image/png"}
    response = await http.post("/models/frames/infer", files={"frame": FILE}, headers=headers)
    np.testing.assert_array_equal(pixels(response.content), PIXELS)
    two = {"frame": [TEXT, TEXT]}
    problem = problem_of(await http.post("/models/frames/infer", json=two, headers=headers), 406)
    assert "`frame` holds 2 pictures" in problem["detail"]


async def test_png_in_json_replaces_only_pictures(http: httpx2.AsyncClient) -> None:
    body = {"image": TEXT, "factor": 2}
    row = (await http.post("/models/upscaler/infer?arrays=png", json=body)).json()
    assert row["factor"] == 2
    np.testing.assert_array_equal(pixels(base64.b64decode(row["image"])), PIXELS)
    problem = problem_of(await http.post("/models/classifier/infer?arrays=png", json={"data_0": TEXT}), 422)
    assert problem["code"] == "unsupported_parameter"


@pytest.mark.parametrize("normalize", ["none", "unit", "inception", "imagenet"])
async def test_a_normalization_is_for_inputs_and_outputs(
    http: httpx2.AsyncClient, triton: FakeTriton, normalize: str
) -> None:
    response = await http.post(f"/models/styles/infer?arrays=png&normalize={normalize}", json={"a": TEXT})
    np.testing.assert_array_equal(pixels(base64.b64decode(response.json()["a"])), PIXELS)
    low, high = {"none": (0, 255), "unit": (0, 1), "inception": (-1, 1), "imagenet": (-2.2, 2.7)}[normalize]
    assert low <= sent(triton, "a").min() < sent(triton, "a").max() <= high


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("upscaler/infer?normalize=unit", {"image": TEXT}, "no input or output of upscaler holds a picture of floats"),
        ("plain/infer?normalize=unit", {"x": 1}, "no input or output"),
        ("classifier/infer?normalize=unit", {"data_0": np.zeros((1, 3, 6, 4)).tolist()}, "the request has none"),
    ],
)
async def test_a_normalization_that_has_no_effect_is_rejected(
    http: httpx2.AsyncClient, path: str, body: Any, reason: str
) -> None:
    problem = problem_of(await http.post(f"/models/{path}", json=body), 422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("unsupported_parameter", "#/normalize")
    assert reason in problem["detail"]


async def test_a_normalization_needs_a_picture_of_floats(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    inputs = tensor("f", "FP32", (3, 6, 4), optional=True), tensor("u", "UINT8", (6, 4, 3), optional=True)
    grey = TensorConfig("g", BY_WIRE["FP32"], (1, 2, 2), normalize="none")
    triton.add(ModelConfig("both", 0, inputs, (grey,)), lambda _: {"g": np.full((1, 2, 2), 7)})
    await http._transport.app.registry.poll()  # type: ignore[attr-defined]
    path = "/models/both/infer?arrays=png&normalize=imagenet"
    assert "the request has none" in problem_of(await http.post(path, json={"u": TEXT}), 422)["detail"]
    png = (await http.post(path, json={"f": TEXT, "u": TEXT})).json()["g"]
    assert (pixels(base64.b64decode(png)) == 7).all()  # ImageNet's normalization is not for grey


async def test_an_output_of_bytes_does_not_use_a_normalization(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    x, y = tensor("x", "FP32", (3, 2, 2)), tensor("y", "UINT8", (2, 2, 3))
    triton.add(ModelConfig("mixed", 0, (x,), (y,)), echo)
    await http._transport.app.registry.poll()  # type: ignore[attr-defined]
    body = {"x": np.zeros((3, 2, 2)).tolist()}
    problem = problem_of(await http.post("/models/mixed/infer?arrays=png&normalize=unit", json=body), 422)
    assert "the request has none" in problem["detail"]


async def test_normalizations_are_checked(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    problem_of(await http.post("/models/styles/infer?normalize=x", json={"a": TEXT}), 422)
    triton.add(model("grey", tensor("a", "FP32", (1, -1, -1))), echo)
    await http._transport.app.registry.poll()  # type: ignore[attr-defined]
    problem = problem_of(await http.post("/models/grey/infer?normalize=imagenet", json={"a": TEXT}), 422)
    assert "takes one of none, unit, inception" in problem["detail"]


async def test_limits_that_lists_reach_name_the_file(http: httpx2.AsyncClient) -> None:
    large = as_file(Image.new("1", (20_000, 20_000)))
    problem = problem_of(await http.post("/models/styles/infer", files={"a": large}), 413)
    assert (problem["code"], "Instead of a list" in problem["detail"]) == ("image_too_large", False)
    hint = "curl -F a=@photo.jpg"
    problem = problem_of(await http.post("/models/styles/infer", json={"a": np.ones((3, 50, 50)).tolist()}), 413)
    assert (problem["code"], hint in problem["detail"]) == ("too_many_elements", True)
    problem = problem_of(await http.post("/models/styles/infer", json={"a": np.ones((3, 250, 250)).tolist()}), 413)
    assert (problem["code"], hint in problem["detail"]) == ("body_too_large", True)
    problem = problem_of(await http.post("/models/plain/infer", json={"x": [1] * 2000}), 413)
    assert "curl" not in problem["detail"]


async def test_a_model_describes_its_pictures(http: httpx2.AsyncClient) -> None:
    described = (await http.get("/models/classifier")).json()["inputs"]
    assert described[0]["image"] == {
        "layout": "CHW",
        "channels": 3,
        "height": 6,
        "width": 4,
        "normalize": "imagenet",
        "normalizations": ["none", "unit", "inception", "imagenet"],
        "use": "a file in a form (curl -F data_0=@photo.jpg), base64 text in JSON, or an array",
    }
    assert not any("image" in each for each in described[1:])
    for name in ("classifier", "upscaler", "styles"):
        inputs = (await http.get(f"/models/{name}")).json()["inputs"]
        body = {each["name"]: each["example"] for each in inputs if not each["optional"]}
        assert (await http.post(f"/models/{name}/infer", json=body)).status_code == 200
    (output, _) = (await http.get("/models/upscaler")).json()["outputs"]
    assert "Accept: image/png" in output["image"]["use"]
    assert "Accept" not in (await http.get("/models/styles")).json()["outputs"][0]["image"]["use"]


def test_the_openapi_document_has_forms_and_pictures_only_where_they_work() -> None:
    paths = openapi.paths([UPSCALER, CLASSIFIER, STYLES, model("plain", tensor("x"))])["paths"]
    operations = {
        name: paths[f"/models/{name}/infer"]["post"] for name in ("upscaler", "classifier", "styles", "plain")
    }
    bodies = {name: set(each["requestBody"]["content"]) for name, each in operations.items()}
    both = {"application/json", "multipart/form-data"}
    assert bodies == {"upscaler": both, "classifier": both, "styles": both, "plain": {"application/json"}}
    returned = {name: set(each["responses"]["200"]["content"]) for name, each in operations.items()}
    assert [name for name, types in returned.items() if "image/png" in types] == ["upscaler"]
    options = {
        name: {each["name"]: each["schema"]["enum"] for each in op["parameters"] if "enum" in each["schema"]}
        for name, op in operations.items()
    }
    assert [name for name, option in options.items() if "png" in option["arrays"]] == ["upscaler", "styles"]
    assert [name for name, option in options.items() if "normalize" in option] == ["classifier", "styles"]
    body = operations["classifier"]["requestBody"]["content"]["multipart/form-data"]
    form = body["schema"]
    assert form["required"] == ["data_0"]
    assert form["properties"]["data_0"]["format"] == "binary"
    assert form["properties"]["boxes"]["contentMediaType"] == "application/json"
    assert body["example"] == {"data_0": SCRIBBLE}


def test_hints_set_the_normalization_and_wrong_ones_are_reported() -> None:
    def entry(name: str, datatype: str, *dims: int, **more: str) -> dict[str, Any]:
        return {"name": name, "data_type": datatype, "dims": list(map(str, dims)), **more}

    hints = {"a": "imagenet", "b": "imagenet", "c": "unit", "d": "x", "e": "unit"}
    config = from_server(
        {
            "name": "m",
            "input": [
                entry("a", "TYPE_FP32", 3, 8, 3, format="FORMAT_NHWC"),
                entry("b", "TYPE_FP16", 1, -1, -1),
                entry("c", "TYPE_UINT8", 3, 8, 8),
                entry("d", "TYPE_FP32", 3, 8, 8),
            ],
            "parameters": {f"normalize.{name}": {"string_value": value} for name, value in hints.items()},
        }
    )
    assert [each.normalize for each in config.inputs] == ["imagenet", "unit", "unit", "unit"]
    assert config.inputs[0].image is not None
    assert not config.inputs[0].image.channels_first
    assert [problem.partition(",")[0].partition(" is ")[0] for problem in config.useless_hints] == [
        "the parameter `normalize.b`",
        "the parameter `normalize.c`",
        "the parameter `normalize.d`",
        "the parameter `normalize.e` names no input or output of the model",
    ]
    assert "none, unit, inception" in config.useless_hints[0]
    assert "TYPE_UINT8" in config.useless_hints[1]
