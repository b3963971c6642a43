# SPDX-License-Identifier: Apache-2.0
"""perf_analyzer's input data, decoded as its documentation says, has the values of the requests."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype

from fastapi_triton.cli.perf import input_data
from fastapi_triton.cli.perf.tool import PerfError
from fastapi_triton.triton.datatypes import BY_WIRE, DATATYPES
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig


def model(*inputs: TensorConfig, max_batch_size: int = 8) -> ModelConfig:
    return ModelConfig("paints", max_batch_size, inputs, ())


def tensor(name: str, wire: str, *dims: int, optional: bool = False) -> TensorConfig:
    return TensorConfig(name, BY_WIRE[wire], dims or (1,), optional)


PAINTS = model(
    tensor("prompt", "BYTES"),
    tensor("image", "BYTES"),
    tensor("scale", "FP32"),
    tensor("seed", "INT64", optional=True),
)
REQUEST = {"prompt": "hä🏠", "image": "aGk=", "scale": 0.5}


def sent(entry: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray[Any, Any]]:
    """An entry as tensors: `b64` has the bytes on the wire, `content` the numbers."""
    arrays = {}
    for name, tensor_data in entry.items():
        wire = next(each for each in config.inputs if each.name == name).datatype.wire
        if "content" in tensor_data:
            array = np.array(tensor_data["content"], triton_to_np_dtype(wire))
        elif wire == "BYTES":
            array = deserialize_bytes_tensor(base64.b64decode(tensor_data["b64"]))
        else:
            array = np.frombuffer(base64.b64decode(tensor_data["b64"]), triton_to_np_dtype(wire))
        arrays[name] = array.reshape(tensor_data["shape"])
    return arrays


def entries(*requests: Mapping[str, Any], config: ModelConfig = PAINTS) -> list[dict[str, Any]]:
    return json.loads(input_data.document([dict(each) for each in requests], config))["data"]


def test_the_input_data_has_the_values_of_the_request() -> None:
    (entry,) = entries({**REQUEST, "seed": 2**62 + 1})
    arrays = sent(entry, PAINTS)
    assert arrays["prompt"].tolist() == ["hä🏠".encode()]
    assert arrays["image"].tolist() == [b"aGk="]
    assert arrays["scale"].tolist() == [0.5]
    assert arrays["seed"].tolist() == [2**62 + 1]


def test_every_string_has_its_length_in_front() -> None:
    (entry,) = entries(REQUEST)
    assert base64.b64decode(entry["image"]["b64"]) == b"\x04\x00\x00\x00aGk="


@pytest.mark.parametrize("max_batch_size", [0, 8])
@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda each: each.wire)
def test_every_datatype_and_shape_is_converted(datatype: Any, max_batch_size: int) -> None:
    config = model(tensor("x", datatype.wire, -1, 2), max_batch_size=max_batch_size)
    values: list[list[Any]] = {"bool": [[True, False], [False, False]], "bytes": [["a", ""], ["ä", "b\x00"]]}.get(
        datatype.kind, [[0, 1], [2, 100]]
    )
    (entry,) = entries({"x": values}, config=config)
    array = sent(entry, config)["x"]
    assert array.shape == (2, 2)
    expected = [[each.encode() for each in row] for row in values] if datatype.kind == "bytes" else values
    assert array.tolist() == expected


def test_optional_inputs_can_be_omitted() -> None:
    (entry,) = entries({**REQUEST, "seed": None})
    assert set(entry) == {"prompt", "image", "scale"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"promt": "a"}, "no input `promt`; did you mean `prompt`"),
        ({"scale": None}, "`scale` is missing"),
        ({"prompt": 5}, "`prompt` must be BYTES"),
        ({"scale": "0.5"}, "`scale` must be FP32"),
        ({"scale": True}, "`scale` must be FP32"),
        ({"seed": 1.5}, "`seed` must be INT64"),
        ({"seed": 2**63}, r"`seed` is \d+; it must be a whole number from"),
        ({"prompt": ["a", "b"]}, r"has the length 2, but it must be 1; the model takes \[1\]"),
        ({"prompt": {"b64": "x"}}, "`prompt` must be BYTES"),
    ],
)
def test_an_invalid_value_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PerfError, match=words):
        entries({**REQUEST, **changes})


def test_the_path_that_takes_pictures_is_named() -> None:
    config = model(tensor("photo", "FP32", 3, 8, 8))
    with pytest.raises(PerfError, match=f"Only /models/{config.name}/infer takes pictures"):
        entries({"photo": "aGk="}, config=config)


def test_all_problems_of_a_request_are_reported_together() -> None:
    with pytest.raises(PerfError) as raised:
        entries({"promt": "a", "scale": "b"})
    assert str(raised.value).count("\n") == 3  # promt; prompt and image are missing; scale


def test_requests_are_read_from_files_and_folders(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(json.dumps({"seed": number}))
    (tmp_path / "notes.txt").write_text("not a request")
    assert input_data.read_requests([tmp_path, tmp_path / "0.json"]) == [
        {"seed": 0},
        {"seed": 1},
        {"seed": 2},
        {"seed": 0},
    ]


def test_a_folder_of_pictures_gives_a_request_for_each(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", ".hidden"):
        (tmp_path / name).write_bytes(name.encode())
    made = input_data.with_files([{"prompt": "x", "image": "y"}, {"prompt": "z"}], {"image": tmp_path})
    assert [(each["prompt"], base64.b64decode(each["image"])) for each in made] == [
        ("x", b"a.png"),
        ("x", b"b.png"),
        ("z", b"a.png"),
        ("z", b"b.png"),
    ]


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no file or folder"), ("{", "is not JSON"), ("[1]", "must contain one JSON object")]
)
def test_an_invalid_request_file_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "request.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PerfError, match=words) as raised:
        input_data.read_requests([path])
    assert str(path) in str(raised.value)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match=r"has no file that matches \*\.json"):
        input_data.read_requests([tmp_path])
