# SPDX-License-Identifier: Apache-2.0
"""The main task on a real Triton: scribble and prompt in, picture out, through the frontend and directly."""

import base64
import io
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import tritonclient.http as tritonclient
from PIL import Image, ImageChops
from tritonclient.utils import np_to_triton_dtype

from support.paths import ROOT
from support.received_events import events_in
from support.scribble_app import MODEL, PATH, SMALL
from support.serving import Server, free_port, running_uvicorn, serving

pytestmark = pytest.mark.integration

HOUSE = ROOT / "demo" / "examples" / "house.png"
SCRIBBLES = sorted(path for path in (ROOT / "tests" / "data" / "scribbles").iterdir() if path.suffix != ".json")


def draw(server: Server, *, accept: str = "application/json", **fields: Any) -> httpx2.Response:
    image = base64.b64encode(HOUSE.read_bytes()).decode()
    body = {"prompt": "a red house", "image": image, "seed": 1, **SMALL, **fields}
    return server.post(PATH, json=body, headers={"Accept": accept})


def picture_of(response: httpx2.Response) -> bytes:
    assert response.status_code == 200, response.text
    return base64.b64decode(response.json()["generated_image"])


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.convert("RGB")


def difference(one: bytes, other: bytes) -> float:
    """The mean difference of two pictures, 0 to 255."""
    return float(np.asarray(ImageChops.difference(opened(one), opened(other))).mean())


def test_json_response_has_the_picture_and_its_info(scribble_server: Server) -> None:
    result = draw(scribble_server).json()
    image = Image.open(io.BytesIO(base64.b64decode(result["generated_image"])))
    assert (image.format, image.size) == ("WEBP", (128, 128))
    assert result["seed"] == 1
    assert result["info"]["width"] == 128


def test_same_seed_gives_the_same_bytes(scribble_server: Server) -> None:
    first, second, other = (picture_of(draw(scribble_server, seed=seed)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_random_seed_is_returned_and_reproduces_the_picture(scribble_server: Server) -> None:
    drawn = draw(scribble_server, seed=-1)
    again = draw(scribble_server, seed=drawn.json()["seed"])
    assert picture_of(again) == picture_of(drawn)
    assert draw(scribble_server, seed=-1).json()["seed"] != drawn.json()["seed"]


def test_syntax_of_the_prompt(scribble_server: Server) -> None:
    fields = {"prompt": "a (red:1.4) house BREAK in the snow", "num_inference_steps": 2}
    own = {"prompt_syntax": "a1111", "clip_skip": 1}
    weighted, plain = draw(scribble_server, **fields, **own), draw(scribble_server, **fields)
    assert weighted.json()["info"].items() >= own.items()
    assert difference(picture_of(weighted), picture_of(plain)) > 0
    assert picture_of(weighted) == generated_by_facade(scribble_server, **fields, **own)
    refused = draw(scribble_server, prompt="(a:1000)", prompt_syntax="a1111")
    assert (refused.status_code, refused.json()["code"]) == (422, "out_of_range")
    assert refused.json()["errors"][0]["pointer"] == "#/prompt"


def test_presets_and_loras_of_the_demo_checkpoint(scribble_server: Server) -> None:
    description = scribble_server.get(f"{PATH}/describe").json()
    assert [each["name"] for each in description["loras"]] == ["crayon", "few_step", "neon", "watercolour"]
    draft, styled = (draw(scribble_server, preset="draft", loras=loras) for loras in ([], [{"name": "neon"}]))
    for response, names in ((draft, {"few_step"}), (styled, {"few_step", "neon"})):
        info = response.json()["info"]
        assert {each["name"] for each in info["loras"]} == names
        assert info["num_inference_steps"] == description["presets"]["draft"]["num_inference_steps"]
    assert difference(picture_of(draft), picture_of(styled)) > 0


def test_reproducible_picture_is_the_same_beside_other_requests(scribble_server: Server) -> None:
    fields = {"scheduler": "lcm", "num_inference_steps": 8, "guidance_scale": 12.0, "reproducible": True}
    alone = draw(scribble_server, **fields)
    assert alone.json()["info"]["reproducible"] is True
    with ThreadPoolExecutor(5) as threads:
        others = [threads.submit(draw, scribble_server, seed=seed, num_inference_steps=6) for seed in range(4)]
        beside = threads.submit(draw, scribble_server, **fields).result()
        by_facade = generated_by_facade(scribble_server, **fields)
        assert all(other.result().status_code == 200 for other in others)
    assert picture_of(beside) == picture_of(alone)
    assert by_facade == picture_of(alone)


def generated_by_facade(server: Server, **fields: Any) -> bytes:
    """A picture of the public model, which the frontend does not use if there is a stream model."""
    image = base64.b64encode(HOUSE.read_bytes()).decode()
    body = {"prompt": "a red house", "image": image, "seed": 1, "conditioning_scale": 1.0, **SMALL, **fields}
    response = httpx2.post(f"http://{server.triton_url}/v2/models/{MODEL}/generate", json=body, timeout=120)
    assert response.status_code == 200, response.text
    return base64.b64decode(response.json()["generated_image"])


def test_conditioning_scale_changes_the_picture(scribble_server: Server) -> None:
    full, free = (picture_of(draw(scribble_server, conditioning_scale=scale)) for scale in (1.0, 0.0))
    assert difference(full, free) > 5


def test_picture_follows_the_prompt(scribble_server: Server) -> None:
    red, blue = (
        np.asarray(opened(picture_of(draw(scribble_server, prompt=f"a {colour} house on a white background")))).mean(
            (0, 1)
        )
        for colour in ("red", "blue")
    )
    assert red[0] > blue[0] + 20
    assert blue[2] > red[2] + 20


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_accept_header_selects_the_format_of_the_file(scribble_server: Server, kind: str) -> None:
    response = draw(scribble_server, accept=f"image/{kind}")
    image = Image.open(io.BytesIO(response.content))
    image.load()
    assert image.format == kind.upper()
    assert response.headers["x-seed"] == "1"
    assert json.loads(response.headers["x-info"])["seed"] == 1


@pytest.mark.parametrize("scribble", SCRIBBLES, ids=lambda path: path.name)
def test_every_kind_of_scribble_gives_a_picture(scribble_server: Server, scribble: Path) -> None:
    with scribble.open("rb") as file:
        response = scribble_server.post(
            PATH,
            data={"prompt": "a red heart", "num_inference_steps": "1"},
            files={"image": (scribble.name, file)},
            headers={"Accept": "image/png"},
        )
    assert response.status_code == 200, response.text
    assert list(opened(response.content).size) in scribble_server.get(f"{PATH}/describe").json()["sizes"]


@pytest.mark.parametrize(
    ("fields", "status", "code", "pointer"),
    [
        ({"width": 40, "height": 40}, 422, "unsupported_size", "#/width"),
        ({"scheduler": "nope"}, 422, "unknown_scheduler", "#/scheduler"),
        ({"num_inference_steps": 100_000}, 422, "out_of_range", "#/num_inference_steps"),
        ({"control_guidance_start": 0.9, "control_guidance_end": 0.1}, 422, "out_of_range", None),
        (
            {"image": base64.b64encode(HOUSE.read_bytes()[: HOUSE.stat().st_size // 2]).decode()},
            422,
            "truncated_image",
            "#/image",
        ),
    ],
)
def test_errors_of_the_models_checks_are_problem_json(
    scribble_server: Server, fields: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    response = draw(scribble_server, **fields)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    if pointer:
        assert response.json()["errors"][0]["pointer"] == pointer


def test_frontend_serves_other_requests_while_a_picture_is_made(scribble_server: Server) -> None:
    responses: list[httpx2.Response] = []
    slow = threading.Thread(target=lambda: responses.append(draw(scribble_server, num_inference_steps=50)))
    slow.start()
    assert scribble_server.get("/health/ready").status_code == 200
    assert slow.is_alive()  # the response arrived while it ran
    slow.join()
    assert responses[0].status_code == 200


def test_curl_command_printed_at_start_writes_a_picture(scribble_server: Server, tmp_path: Path) -> None:
    command = scribble_server.wait_for(r"Try it: (curl (?s:.*?)house\.png')")[1]
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, capture_output=True)
    image = Image.open(tmp_path / "picture.png")
    image.load()
    assert image.format == "PNG"


def test_uvicorn_serves_with_an_external_triton(scribble_server: Server) -> None:
    with running_uvicorn(ROOT, port=free_port(), triton_url=f"http://{scribble_server.triton_url}") as url:
        fields = {"prompt": (None, "a red house"), "image": ("house.png", HOUSE.read_bytes())}
        fields |= {name: (None, str(side)) for name, side in SMALL.items()}
        response = httpx2.post(url + PATH, files=fields, headers={"Accept": "image/png"}, timeout=60)
    assert opened(response.content).size == (128, 128)


def test_frontend_serves_with_an_external_triton(scribble_server: Server, tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    with serving("--triton", f"http://{scribble_server.triton_url}", folder=tmp_path) as server:
        server.wait_until_ready()
        assert len(server.below()) == 0
        assert picture_of(draw(server)) == picture_of(draw(scribble_server))


# ---- streams and disconnects


def events_of(server: Server, **fields: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of one request, by name. Closing the iterator disconnects."""
    image = base64.b64encode(HOUSE.read_bytes()).decode()
    body = {"prompt": "a red house", "image": image, "seed": 1, **SMALL, **fields}
    headers = {"Accept": "text/event-stream"}
    with httpx2.stream("POST", server.url + PATH, json=body, headers=headers, timeout=120) as response:
        assert response.status_code == 200
        yield from ((event.name, event.data) for event in events_in(response.iter_lines()) if event.name)


def test_events_have_steps_and_previews_and_end_with_the_plain_response(scribble_server: Server) -> None:
    events = list(events_of(scribble_server, num_inference_steps=6))
    assert [name for name, _ in events] == ["queued", *["progress"] * (len(events) - 2), "completed"]
    steps = [data["step"] for name, data in events if name == "progress"]
    assert steps == sorted(set(steps))
    assert {data["num_steps"] for name, data in events if name == "progress"} == {6}
    previews = [opened(base64.b64decode(data["preview"])) for _, data in events if "preview" in data]
    assert {preview.size for preview in previews} == {(32, 32)}
    plain = draw(scribble_server, num_inference_steps=6).json()
    assert events[-1][1]["generated_image"] == plain["generated_image"]
    assert events[-1][1].keys() == plain.keys()


def test_disconnect_stops_the_denoising(scribble_server: Server) -> None:
    cancelled, steps = (
        'sdxl_engine_requests_total{how="cancelled"}',
        'sdxl_engine_steps_total{size="128x128"}',
    )
    before = {series: scribble_server.counted(series) for series in (cancelled, steps)}
    watching = events_of(scribble_server, num_inference_steps=50)
    while next(watching)[0] != "progress":
        pass
    watching.close()
    while scribble_server.counted(cancelled) == before[cancelled]:
        pass
    assert scribble_server.counted(steps) - before[steps] < 45


def test_error_after_the_first_event_is_an_event(scribble_server: Server) -> None:
    content = HOUSE.read_bytes()
    pixels = content.index(b"IDAT") + 4
    damaged = content[: pixels + 1000] + bytes(1000) + content[pixels + 2000 :]  # its structure is valid
    name, problem = list(events_of(scribble_server, image=base64.b64encode(damaged).decode()))[-1]
    assert name == "error"
    assert problem["code"] == "truncated_image"
    assert problem["errors"][0]["pointer"] == "#/image"


def test_describe_returns_sizes_defaults_and_limits(scribble_server: Server) -> None:
    description = scribble_server.get(f"{PATH}/describe").json()
    defaults = description["defaults"]
    assert [defaults["width"], defaults["height"]] in description["sizes"]
    assert "euler" in description["schedulers"]
    image = base64.b64encode(HOUSE.read_bytes()).decode()
    info = scribble_server.post(PATH, json={"prompt": "a red house", "image": image}).json()["info"]
    taken = ("num_inference_steps", "guidance_scale", "scheduler", "width", "height")
    assert {name: info[name] for name in taken} == {name: defaults[name] for name in taken}


# ---- tritonclient, without the frontend


def infer(server: Server, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Send a request with `tritonclient.http`. The first dimension of the inputs is the batch."""
    sides = {name: column(*[side] * len(inputs["prompt"]), dtype=np.int32) for name, side in SMALL.items()}
    tensors = []
    for name, array in {**inputs, **sides}.items():
        tensor = tritonclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    client = tritonclient.InferenceServerClient(server.triton_url, network_timeout=120)
    try:
        result = client.infer(MODEL, tensors)
        return {name: result.as_numpy(name) for name in ("generated_image", "seed", "info")}
    finally:
        client.close()


def column(*values: Any, dtype: Any = object) -> np.ndarray[Any, Any]:
    return np.array([[value] for value in values], dtype=dtype)  # (N, 1)


@pytest.mark.parametrize("is_text", [True, False], ids=["base64", "raw"])
@pytest.mark.parametrize("num_rows", [1, 4])
def test_tritonclient_gets_pictures_in_the_form_of_the_scribble(
    scribble_server: Server, is_text: bool, num_rows: int
) -> None:
    image = base64.b64encode(HOUSE.read_bytes()) if is_text else HOUSE.read_bytes()
    response = infer(
        scribble_server,
        {
            "prompt": column(*[b"a red house"] * num_rows),
            "image": column(*[image] * num_rows),
            "conditioning_scale": column(*[1.0] * num_rows, dtype=np.float32),
            "seed": column(*range(num_rows), dtype=np.int64),
        },
    )
    assert response["generated_image"].shape == response["seed"].shape == response["info"].shape == (num_rows, 1)
    assert response["seed"].flatten().tolist() == list(range(num_rows))
    pictures = [bytes(each) for each in response["generated_image"].flatten()]
    if is_text:
        pictures = [base64.b64decode(each, validate=True) for each in pictures]
    assert all(opened(each).size == (128, 128) for each in pictures)
    assert len(set(pictures)) == num_rows


def test_rows_of_a_batch_keep_their_own_parameters(scribble_server: Server) -> None:
    rows = {
        "prompt": column(b"a red house", b"a blue house"),
        "image": column(*[HOUSE.read_bytes()] * 2),
        "conditioning_scale": column(1.0, 0.5, dtype=np.float32),
        "seed": column(3, 4, dtype=np.int64),
        "output_format": column(b"png", b"png"),
    }
    together = infer(scribble_server, rows)
    alone = [infer(scribble_server, {name: array[row : row + 1] for name, array in rows.items()}) for row in (0, 1)]
    for row in (0, 1):
        difference = levels(together["generated_image"][row, 0]) - levels(alone[row]["generated_image"][0, 0])
        assert np.abs(difference).max() <= 1  # the last bit may differ in a pass with other rows


def levels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)), dtype=np.int16)  # (H, W, 3)


def test_invalid_scribble_fails_only_its_own_request(scribble_server: Server) -> None:
    responses: dict[int, httpx2.Response] = {}

    def send(number: int) -> None:
        image = "aGVsbG8=" if number == 1 else base64.b64encode(HOUSE.read_bytes()).decode()
        tensors = {"prompt": "a red house", "image": image, "conditioning_scale": 1.0, **SMALL}
        datatypes = {str: "BYTES", float: "FP32", int: "INT32"}
        inputs = [
            {"name": name, "shape": [1, 1], "datatype": datatypes[type(value)], "data": [value]}
            for name, value in tensors.items()
        ]
        url = f"http://{scribble_server.triton_url}/v2/models/{MODEL}/infer"
        responses[number] = httpx2.post(url, json={"inputs": inputs}, timeout=120)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [responses[number].status_code for number in range(4)] == [200, 400, 200, 200]
    assert json.loads(responses[1].json()["error"])["code"] == "not_an_image"


def test_generated_endpoint_makes_the_same_picture_from_a_list_of_rows(scribble_server: Server) -> None:
    house = base64.b64encode(HOUSE.read_bytes()).decode()
    row = {"prompt": "a red house", "image": house, "conditioning_scale": 1, "seed": 7, "num_inference_steps": 2}
    row |= {**SMALL, "output_format": "png"}
    response = scribble_server.post(f"/models/{MODEL}/infer", json=[row, row])
    assert response.status_code == 200, response.text
    one, other = response.json()
    assert one["seed"] == other["seed"] == 7
    first, second = (levels(base64.b64decode(each["generated_image"])) for each in (one, other))
    assert first.shape == (128, 128, 3)
    assert np.abs(first - second).max() <= 1  # the last bit may differ between rows of a pass
    rejected = scribble_server.post(f"/models/{MODEL}/infer", json={**row, "image": "aGVsbG8=", "seed": 1.5})
    assert [each["pointer"] for each in rejected.json()["errors"]] == ["#/image", "#/seed"]
