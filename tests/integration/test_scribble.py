# SPDX-License-Identifier: Apache-2.0
"""The main job on a real Triton: scribble and prompt in, picture out; through the frontend, and beside it."""

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

from support.paths import ROOT
from support.received_events import events_in
from support.scribble_app import MODEL, PATH
from support.serving import Server, free_port, running_uvicorn, serving

pytestmark = pytest.mark.integration

HOUSE = ROOT / "demo" / "examples" / "house.png"
SCRIBBLES = sorted(path for path in (ROOT / "tests" / "data" / "scribbles").iterdir() if path.suffix != ".json")


def ask(server: Server, *, accept: str = "application/json", **fields: Any) -> httpx2.Response:
    body = {"prompt": "a red house", "image": base64.b64encode(HOUSE.read_bytes()).decode(), "seed": 1, **fields}
    return server.post(PATH, json=body, headers={"Accept": accept})


def picture_of(answer: httpx2.Response) -> bytes:
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["generated_image"])


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.convert("RGB")


def difference(one: bytes, other: bytes) -> float:
    """Mean difference of two pictures, 0 to 255."""
    return float(np.asarray(ImageChops.difference(opened(one), opened(other))).mean())


def test_json_gives_a_picture_and_says_how_it_was_made(scribble_server: Server) -> None:
    told = ask(scribble_server).json()
    image = Image.open(io.BytesIO(base64.b64decode(told["generated_image"])))
    assert (image.format, image.size) == ("WEBP", (128, 128))
    assert told["seed"] == 1
    assert told["info"]["width"] == 128


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(scribble_server: Server) -> None:
    first, second, other = (picture_of(ask(scribble_server, seed=seed)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_a_seed_that_was_drawn_is_told_and_makes_the_picture_again(scribble_server: Server) -> None:
    drawn = ask(scribble_server, seed=-1)
    again = ask(scribble_server, seed=drawn.json()["seed"])
    assert picture_of(again) == picture_of(drawn)
    assert ask(scribble_server, seed=-1).json()["seed"] != drawn.json()["seed"]


def test_a_reproducible_picture_is_the_same_beside_others(scribble_server: Server) -> None:
    fields = {"scheduler": "lcm", "num_inference_steps": 8, "guidance_scale": 12.0, "reproducible": True}
    alone = ask(scribble_server, **fields)
    assert alone.json()["info"]["reproducible"] is True
    with ThreadPoolExecutor(5) as threads:
        others = [threads.submit(ask, scribble_server, seed=seed, num_inference_steps=6) for seed in range(4)]
        beside = threads.submit(ask, scribble_server, **fields).result()
        by_facade = generated_by_facade(scribble_server, **fields)
        assert all(other.result().status_code == 200 for other in others)
    assert picture_of(beside) == picture_of(alone)
    assert by_facade == picture_of(alone)


def generated_by_facade(server: Server, **fields: Any) -> bytes:
    """A picture by the public model, which frontends with a stream model do not use."""
    image = base64.b64encode(HOUSE.read_bytes()).decode()
    body = {"prompt": "a red house", "image": image, "seed": 1, "conditioning_scale": 1.0, **fields}
    answer = httpx2.post(f"http://{server.triton_url}/v2/models/{MODEL}/generate", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["generated_image"])


def test_the_conditioning_scale_changes_the_picture(scribble_server: Server) -> None:
    full, free = (picture_of(ask(scribble_server, conditioning_scale=scale)) for scale in (1.0, 0.0))
    assert difference(full, free) > 5


def test_the_picture_follows_the_prompt(scribble_server: Server) -> None:
    red, blue = (
        np.asarray(opened(picture_of(ask(scribble_server, prompt=f"a {colour} house on a white background")))).mean(
            (0, 1)
        )
        for colour in ("red", "blue")
    )
    assert red[0] > blue[0] + 20
    assert blue[2] > red[2] + 20


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_accept_gives_a_file_in_that_format(scribble_server: Server, kind: str) -> None:
    answer = ask(scribble_server, accept=f"image/{kind}")
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    assert image.format == kind.upper()
    assert answer.headers["x-seed"] == "1"
    assert json.loads(answer.headers["x-info"])["seed"] == 1


@pytest.mark.parametrize("scribble", SCRIBBLES, ids=lambda path: path.name)
def test_every_kind_of_scribble_gives_a_picture(scribble_server: Server, scribble: Path) -> None:
    with scribble.open("rb") as file:
        answer = scribble_server.post(
            PATH,
            data={"prompt": "a red heart", "num_inference_steps": "2"},
            files={"image": (scribble.name, file)},
            headers={"Accept": "image/png"},
        )
    assert answer.status_code == 200, answer.text
    assert list(opened(answer.content).size) in scribble_server.get(f"{PATH}/describe").json()["sizes"]


@pytest.mark.parametrize(
    ("fields", "status", "code", "pointer"),
    [
        ({"width": 130, "height": 128}, 422, "unsupported_size", "#/width"),
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
def test_what_only_the_model_can_know_is_refused_like_everything_else(
    scribble_server: Server, fields: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    answer = ask(scribble_server, **fields)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    if pointer:
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_the_frontend_answers_others_while_a_picture_is_made(scribble_server: Server) -> None:
    answers: list[httpx2.Response] = []
    slow = threading.Thread(target=lambda: answers.append(ask(scribble_server, num_inference_steps=50)))
    slow.start()
    assert scribble_server.get("/health/ready").status_code == 200
    assert slow.is_alive()  # it answered meanwhile
    slow.join()
    assert answers[0].status_code == 200


def test_the_curl_that_is_printed_at_the_start_writes_a_picture(scribble_server: Server, tmp_path: Path) -> None:
    command = scribble_server.wait_for(r"Try it: (curl (?s:.*?)house\.png')")[1]
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, capture_output=True)
    image = Image.open(tmp_path / "picture.png")
    image.load()
    assert image.format == "PNG"


def test_uvicorn_fronts_a_triton_that_runs_elsewhere(scribble_server: Server) -> None:
    with running_uvicorn(ROOT, port=free_port(), triton_url=f"http://{scribble_server.triton_url}") as url:
        fields = {"prompt": (None, "a red house"), "image": ("house.png", HOUSE.read_bytes())}
        answer = httpx2.post(url + PATH, files=fields, headers={"Accept": "image/png"}, timeout=60)
    assert opened(answer.content).size == (128, 128)


def test_a_frontend_alone_fronts_a_triton_that_runs_elsewhere(scribble_server: Server, tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    with serving("--triton", f"http://{scribble_server.triton_url}", folder=tmp_path) as server:
        server.wait_until_ready()
        assert len(server.below()) == 0
        assert picture_of(ask(server)) == picture_of(ask(scribble_server))


# ---- watching it come, and leaving


def events_of(server: Server, **fields: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of one request, by name; closing it is leaving."""
    body = {"prompt": "a red house", "image": base64.b64encode(HOUSE.read_bytes()).decode(), "seed": 1, **fields}
    headers = {"Accept": "text/event-stream"}
    with httpx2.stream("POST", server.url + PATH, json=body, headers=headers, timeout=120) as answer:
        assert answer.status_code == 200
        yield from ((event.name, event.data) for event in events_in(answer.iter_lines()) if event.name)


def test_events_tell_the_steps_show_previews_and_end_with_the_plain_answer(scribble_server: Server) -> None:
    told = list(events_of(scribble_server, num_inference_steps=6))
    assert [name for name, _ in told] == ["queued", *["progress"] * (len(told) - 2), "completed"]
    steps = [data["step"] for name, data in told if name == "progress"]
    assert steps == sorted(set(steps))
    assert {data["num_steps"] for name, data in told if name == "progress"} == {6}
    previews = [opened(base64.b64decode(data["preview"])) for _, data in told if "preview" in data]
    assert {preview.size for preview in previews} == {(32, 32)}
    plain = ask(scribble_server, num_inference_steps=6).json()
    assert told[-1][1]["generated_image"] == plain["generated_image"]
    assert told[-1][1].keys() == plain.keys()


def test_whoever_leaves_stops_the_denoising(scribble_server: Server) -> None:
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


def test_a_failure_after_the_first_event_is_an_event_too(scribble_server: Server) -> None:
    content = HOUSE.read_bytes()
    pixels = content.index(b"IDAT") + 4
    damaged = content[: pixels + 1000] + bytes(1000) + content[pixels + 2000 :]  # whole, as far as its structure says
    name, problem = list(events_of(scribble_server, image=base64.b64encode(damaged).decode()))[-1]
    assert name == "error"
    assert problem["code"] == "truncated_image"
    assert problem["errors"][0]["pointer"] == "#/image"


def test_describe_tells_sizes_defaults_and_limits(scribble_server: Server) -> None:
    told = scribble_server.get(f"{PATH}/describe").json()
    defaults = told["defaults"]
    assert [defaults["width"], defaults["height"]] in told["sizes"]
    assert "euler" in told["schedulers"]
    assert ask(scribble_server, seed=2).json()["info"]["num_inference_steps"] == defaults["num_inference_steps"]


# ---- tritonclient itself, beside the frontend


def infer(server: Server, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """What `tritonclient.http` gets; the inputs' first dimension is the batch."""
    kinds = {"O": "BYTES", "f": "FP32", "i": "INT64"}
    tensors = []
    for name, array in inputs.items():
        tensor = tritonclient.InferInput(name, list(array.shape), kinds[array.dtype.kind])
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
def test_tritonclient_gets_back_what_it_sent_in_kind(scribble_server: Server, is_text: bool, num_rows: int) -> None:
    image = base64.b64encode(HOUSE.read_bytes()) if is_text else HOUSE.read_bytes()
    answer = infer(
        scribble_server,
        {
            "prompt": column(*[b"a red house"] * num_rows),
            "image": column(*[image] * num_rows),
            "conditioning_scale": column(*[1.0] * num_rows, dtype=np.float32),
            "seed": column(*range(num_rows), dtype=np.int64),
        },
    )
    assert answer["generated_image"].shape == answer["seed"].shape == answer["info"].shape == (num_rows, 1)
    assert answer["seed"].flatten().tolist() == list(range(num_rows))
    pictures = [bytes(each) for each in answer["generated_image"].flatten()]
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
        assert np.abs(difference).max() <= 1  # a pass of other rows may round the last bit another way


def levels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)), dtype=np.int16)  # (H, W, 3)


def test_a_bad_picture_fails_its_own_request_and_not_its_neighbours(scribble_server: Server) -> None:
    answers: dict[int, httpx2.Response] = {}

    def send(number: int) -> None:
        image = "aGVsbG8=" if number == 1 else base64.b64encode(HOUSE.read_bytes()).decode()
        tensors = {"prompt": ["a red house"], "image": [image], "conditioning_scale": [1.0]}
        inputs = [
            {
                "name": name,
                "shape": [1, 1],
                "datatype": "FP32" if name == "conditioning_scale" else "BYTES",
                "data": data,
            }
            for name, data in tensors.items()
        ]
        url = f"http://{scribble_server.triton_url}/v2/models/{MODEL}/infer"
        answers[number] = httpx2.post(url, json={"inputs": inputs}, timeout=120)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number].status_code for number in range(4)] == [200, 400, 200, 200]
    assert json.loads(answers[1].json()["error"])["code"] == "not_an_image"


def test_the_generated_endpoint_makes_the_same_picture_from_a_plain_list_of_rows(scribble_server: Server) -> None:
    house = base64.b64encode(HOUSE.read_bytes()).decode()
    row = {"prompt": "a red house", "image": house, "conditioning_scale": 1, "seed": 7, "num_inference_steps": 2}
    row["output_format"] = "png"
    answer = scribble_server.post(f"/models/{MODEL}/infer", json=[row, row])
    assert answer.status_code == 200, answer.text
    one, other = answer.json()
    assert one["seed"] == other["seed"] == 7
    first, second = (levels(base64.b64decode(each["generated_image"])) for each in (one, other))
    assert first.shape == (128, 128, 3)
    assert np.abs(first - second).max() <= 1  # rows of one pass may round the last bit another way
    refused = scribble_server.post(f"/models/{MODEL}/infer", json={**row, "image": "aGVsbG8=", "seed": 1.5})
    assert [each["pointer"] for each in refused.json()["errors"]] == ["#/image", "#/seed"]
