# SPDX-License-Identifier: Apache-2.0
"""Models with the interfaces of Triton's examples (server, python_backend) have working generated endpoints."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import odd_repository, pages
from support.paths import ROOT
from support.scribble_app import base64_picture
from support.serving import Server, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NAMES = odd_repository.names(odd_repository.EXAMPLE_MODELS)
CLASSES = [{"score": -float(index), "index": index, "label": f"label {index}"} for index in range(3)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("examples")
    odd_repository.make(folder / "models", odd_repository.EXAMPLE_MODELS)
    with serving("--embedded", folder=folder) as running:
        yield running.wait_until_ready()


def infer(server: Server, model: str, body: Any, query: str = "") -> Any:
    response = server.post(f"/models/{model}/infer{query}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def stream(server: Server, model: str, body: Any) -> list[Any]:
    response = server.post(f"/models/{model}/infer", json=body)
    assert response.status_code == 200, response.text
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def test_every_model_has_an_endpoint(server: Server) -> None:
    models = {each["name"]: each["reason"] for each in server.get("/models").json()["models"]}
    assert models == dict.fromkeys(NAMES)


def test_the_examples_of_the_reference_page_do_what_it_says(server: Server, tmp_path: Path) -> None:
    page = ROOT / "docs" / "reference" / "datatypes.md"
    assert pages.EXAMPLE_MODELS_MARK in page.read_text(encoding="utf-8")
    pages.run_all(page, url=server.url, folder=tmp_path)


def test_the_examples_of_the_openapi_document_work(server: Server) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    for model in NAMES:
        body = paths[f"/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]
        for example in body["examples"].values():
            text = json.dumps(example["value"])
            if " bytes)" in text:  # a picture, which is too long for an example
                continue
            value = json.loads(text.replace('"text"', '"3"'))  # simple_string takes numbers as texts
            if model == "bls":
                value["MODEL_NAME"] = "add_sub"
            response = server.post(f"/models/{model}/infer", json=value)
            assert response.status_code == 200, (model, response.text)


@pytest.mark.parametrize(
    ("model", "a", "b", "total", "difference"),
    [
        ("simple", list(range(16)), [1] * 16, list(range(1, 17)), list(range(-1, 15))),
        ("simple_int8", [100] * 16, [-100] * 16, [0] * 16, [-56] * 16),
        ("simple_string", ["3"] * 16, ["4"] * 16, ["7"] * 16, ["-1"] * 16),
        ("add_sub", [1.5] * 4, [0.5] * 4, [2.0] * 4, [1.0] * 4),
        ("batch_auto_complete", [1.5] * 4, [0.5] * 4, [2.0] * 4, [1.0] * 4),
    ],
)
def test_sums_and_differences(server: Server, model: str, a: Any, b: Any, total: Any, difference: Any) -> None:
    row, expected = {"INPUT0": a, "INPUT1": b}, {"OUTPUT0": total, "OUTPUT1": difference}
    assert infer(server, model, row) == expected
    if model != "add_sub":
        assert infer(server, model, [row] * 3) == [expected] * 3


def test_texts_of_any_number(server: Server) -> None:
    rows = [{"INPUT0": ["ä", ""]}, {"INPUT0": ["b", "c"]}]
    assert infer(server, "simple_identity", rows) == [{"OUTPUT0": row["INPUT0"]} for row in rows]


def test_sequences_of_the_direct_scheduler_take_numbers_and_texts(server: Server) -> None:
    for sequence in (1, "1", "another"):
        sums = []
        for index, value in enumerate((11, 7, 5)):
            body = {"INPUT": value, "sequence_id": sequence, "sequence_start": index == 0, "sequence_end": index == 2}
            sums.append(infer(server, "simple_sequence", body)["OUTPUT"])
        assert sums == [11, 18, 23]


def test_sequences_of_the_oldest_scheduler_show_their_ids_to_the_model(server: Server) -> None:
    sums = []
    for index, (sequence, value) in enumerate(((1000, 1), (2000, 10), (1000, 2), (2000, 20))):
        body = {"INPUT": value, "sequence_id": sequence, "sequence_start": index < 2, "sequence_end": index >= 2}
        sums.append(infer(server, "simple_dyna_sequence", body)["OUTPUT"])
    assert sums == [1, 10, 1003, 2030]
    refused = server.post("/models/simple_dyna_sequence/infer", json={"INPUT": 1, "sequence_id": "text"})
    assert refused.json()["errors"][0]["pointer"] == "#/sequence_id"


@pytest.mark.parametrize(
    ("model", "field", "output"),
    [
        ("densenet_onnx", "data_0", "fc6_1"),
        ("inception_onnx", "input", "InceptionV3/Predictions/Softmax"),
        ("preprocess_inception_ensemble", "INPUT", "OUTPUT"),
    ],
)
def test_pictures_are_classified(server: Server, model: str, field: str, output: str) -> None:
    picture = base64.b64decode(base64_picture())
    if model == "preprocess_inception_ensemble":  # its input is a file's bytes
        response = server.post(f"/models/{model}/infer?classes=3", json={field: {"base64": base64_picture()}})
    else:
        response = server.post(f"/models/{model}/infer?classes=3", files={field: ("a.png", picture)})
    assert response.status_code == 200, response.text
    assert response.json() == {output: CLASSES}


def test_classes_of_a_batch_and_without_labels(server: Server) -> None:
    assert (
        infer(server, "simple", [{"INPUT0": list(range(16)), "INPUT1": [0] * 16}] * 2, "?classes=1")
        == [{name: [{"score": 15, "index": 15, "label": None}] for name in ("OUTPUT0", "OUTPUT1")}] * 2
    )


def test_pixels_go_in_and_come_out(server: Server) -> None:
    boxes = infer(server, "text_detection", {"input_images:0": [[[[1, 2, 3]]]]})
    assert {name: len(value[0][0][0]) for name, value in boxes.items()} == {
        "feature_fusion/Conv_7/Sigmoid:0": 1,
        "feature_fusion/concat_3:0": 5,
    }
    assert infer(server, "stable_diffusion_pipeline", {"prompt": "a"})["generated_image"][0][0] == [0.0, -1.0]
    assert {*infer(server, "preprocess", {"INPUT_0": [1, 2]}, "?arrays=npy")["OUTPUT_0"]} == {"npy"}


def test_a_model_calls_a_model_and_returns_its_error(server: Server) -> None:
    body = {"MODEL_NAME": "add_sub", "INPUT0": [3.0] * 4, "INPUT1": [1.0] * 4}
    assert infer(server, "bls", body) == {"OUTPUT0": [4.0] * 4, "OUTPUT1": [2.0] * 4}
    failed = server.post("/models/bls/infer", json={**body, "MODEL_NAME": "nobody"})
    assert (failed.status_code, failed.json()["code"]) == (502, "inference_failed")


def test_decoupled_models_stream(server: Server) -> None:
    repeated = stream(server, "repeat_int32", {"IN": [4, 2, 0], "DELAY": [1, 1, 1], "WAIT": 0})
    assert repeated == [{"OUT": 4, "IDX": 0}, {"OUT": 2, "IDX": 1}, {"OUT": 0, "IDX": 2}, {"num_responses": 3}]
    assert stream(server, "square_int32", {"IN": 2}) == [{"OUT": 2}, {"OUT": 2}, {"num_responses": 2}]


def test_classes_of_a_decoupled_model_are_refused(server: Server) -> None:
    response: httpx2.Response = server.post("/models/square_int32/infer?classes=1", json={"IN": 2})
    assert response.status_code == 422
    assert "decoupled" in response.json()["detail"]
