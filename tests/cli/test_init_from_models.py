# SPDX-License-Identifier: Apache-2.0
"""`init --from-repository` writes a typed main.py that fits the models, and says why a model is not in it."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fastapi_triton import TritonFrontend
from fastapi_triton.cli.init import app_source
from fastapi_triton.cli.main import app
from support import odd_repository
from support.paths import ROOT


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return odd_repository.make(tmp_path / "models")


def init(folder: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["init", str(folder), *map(str, arguments)])


def check(folder: Path, models: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastapi_triton", "check", "main:app", str(models)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_endpoints_for_odd_models_pass_the_check(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my app"
    done = init(folder, "--from-repository", models)
    assert done.exit_code == 0, done.output
    assert f"cd '{folder}' && fastapi-triton check main:app {models}" in done.output
    found = check(folder, models)
    assert found.returncode == 0, found.stdout + found.stderr
    text = (folder / "main.py").read_text()
    for line in (
        "from typing import Annotated",
        "    x: list[float] = Field(min_length=2, max_length=2)  # TYPE_FP32 [2]",
        "    weight: float | None = None  # TYPE_FP16 [1]",
        '    class_: Annotated[str, TensorName("class")]  # TYPE_STRING [1]',
        "    free: list[list[float]]  # TYPE_FP32 [-1, -1]",
        "    picture_text: Base64Image | None = None  # TYPE_STRING [1]",
        "    blob: Base64Bytes | None = None  # TYPE_STRING [1]",
        'app.infer("/plain/infer", model="plain", request=PlainRequest, response=PlainResponse)',
        '# "repeat": it is decoupled.',
        '# "remembers": it keeps state between requests.',
    ):
        assert f"{line}\n" in text, text


def test_the_file_is_formatted_and_free_of_lint(models: Path, tmp_path: Path) -> None:
    assert init(tmp_path, "--from-repository", models).exit_code == 0
    for command in (("format", "--check"), ("check",)):
        arguments = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", "main.py"]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_a_stream_model_is_found_by_the_parameter_that_names_it(tmp_path: Path) -> None:
    assert init(tmp_path, "--from-repository", ROOT / "models").exit_code == 0
    app = runpy.run_path(str(tmp_path / "main.py"))["app"]
    assert isinstance(app, TritonFrontend)
    (endpoint,) = app.endpoints
    assert endpoint.declaration.models == ("sdxl_scribble_controlnet", "sdxl_scribble_controlnet_stream")
    assert check(tmp_path, ROOT / "models").returncode == 0


def tensors(side: str, *names: str) -> str:
    entries = (f'{{ name: "{name}" data_type: TYPE_STRING dims: 1 }}' for name in names)
    return f"{side} [ {', '.join(entries)} ]"


@pytest.mark.parametrize(
    ("inputs", "outputs", "is_used"),
    [
        (("text",), ("event", "y"), True),
        (("other",), ("event", "y"), False),  # the required input is missing
        (("text",), ("event",), False),  # the output is missing
        (("text",), ("y",), False),  # it has no events
    ],
)
def test_a_stream_model_must_take_the_same_requests(
    tmp_path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], is_used: bool
) -> None:
    calls = 'parameters { key: "stream_model" value { string_value: "s" } }'
    decoupled = "model_transaction_policy { decoupled: true }"
    for name, config in (
        ("m", f"{tensors('input', 'text')} {tensors('output', 'y')} {calls}"),
        ("s", f"{tensors('input', *inputs)} {tensors('output', *outputs)} {decoupled}"),
    ):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(f'backend: "onnxruntime" {config}')
    assert init(tmp_path, "--from-repository", tmp_path / "models").exit_code == 0
    (endpoint,) = runpy.run_path(str(tmp_path / "main.py"))["app"].endpoints
    assert endpoint.declaration.models == (("m", "s") if is_used else ("m",))


def test_the_remaining_time_is_no_field(tmp_path: Path) -> None:
    timeout = 'input { name: "timeout_s" data_type: TYPE_FP32 dims: 1 optional: true }'
    (tmp_path / "models" / "m" / "1").mkdir(parents=True)
    config = f'backend: "onnxruntime" {tensors("input", "text")} {timeout} {tensors("output", "y")}'
    (tmp_path / "models" / "m" / "config.pbtxt").write_text(config)
    assert init(tmp_path, "--from-repository", tmp_path / "models").exit_code == 0
    assert list(runpy.run_path(str(tmp_path / "main.py"))["MRequest"].model_fields) == ["text"]


def test_names_that_are_equal_in_python_get_numbers(tmp_path: Path) -> None:
    declared = """
        input [ { name: "a.b" data_type: TYPE_FP32 dims: 1 }, { name: "a b" data_type: TYPE_FP32 dims: 1 },
                { name: "1" data_type: TYPE_FP32 dims: 1 }, { name: "_" data_type: TYPE_FP32 dims: 1 },
                { name: "float" data_type: TYPE_FP32 dims: 1 }, { name: "a\\"\\n" data_type: TYPE_FP32 dims: 1 } ]
        output { name: "y" data_type: TYPE_FP32 dims: 1 }"""
    for name in ("m-1", "m.1", "1m"):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(f'backend: "onnxruntime" {declared}')
    assert init(tmp_path, "--from-repository", tmp_path / "models").exit_code == 0
    written = runpy.run_path(str(tmp_path / "main.py"))
    assert {name for name in written if name.endswith("Request")} == {"M1Request", "M1_2Request", "Model1mRequest"}
    assert list(written["M1Request"].model_fields) == ["a_b", "a_b_2", "tensor_1", "tensor", "float_", "a"]
    assert check(tmp_path, tmp_path / "models").returncode == 0


def test_one_model_may_be_chosen(models: Path, tmp_path: Path) -> None:
    assert init(tmp_path, "--from-repository", models, "--model", "plain").exit_code == 0
    text = (tmp_path / "main.py").read_text()
    assert text.count("app.infer(") == 1
    assert "texts" not in text


def test_a_model_whose_config_is_incomplete_gets_a_comment(tmp_path: Path) -> None:
    for name, config in (("auto", 'backend: "onnxruntime"'), ("broken", "max_batch_size: x")):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(config)
    assert init(tmp_path / "app", "--from-repository", tmp_path / "models").exit_code == 0
    text = (tmp_path / "app" / "main.py").read_text()
    assert '# "auto": its config.pbtxt does not declare all tensors.\n' in text
    assert '# "broken": its config.pbtxt cannot be read.\n' in text
    assert isinstance(runpy.run_path(str(tmp_path / "app" / "main.py"))["app"], TritonFrontend)


def test_a_picture_gets_a_comment(tmp_path: Path) -> None:
    (tmp_path / "models" / "pets" / "1").mkdir(parents=True)
    (tmp_path / "models" / "pets" / "config.pbtxt").write_text("""
        backend: "onnxruntime"
        input { name: "image" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
        output { name: "scores" data_type: TYPE_FP32 dims: 2 }""")
    assert init(tmp_path / "app", "--from-repository", tmp_path / "models").exit_code == 0
    text = (tmp_path / "app" / "main.py").read_text()
    assert '    # "image" holds a picture; "/models/pets/infer" also takes a file.\n' in text


def test_a_reason_from_triton_stays_a_comment() -> None:
    text = app_source.source([], [("m", "the data_type A\nraise SystemExit\r\x0craise SystemExit")])
    written: dict[str, object] = {}
    exec(text, written)  # noqa: S102
    assert isinstance(written["app"], TritonFrontend)


def test_mistakes_exit_with_2_and_a_reason(models: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "main.py").write_text("mine")
    (tmp_path / "empty").mkdir()
    for folder, arguments, words in (
        ("a", ("--from-repository", models, "--model", "plian"), "There is no model plian; did you mean `plain`?"),
        ("a", ("--from-repository", tmp_path / "nope"), f"There is no model repository at {tmp_path / 'nope'}."),
        ("a", ("--from-repository", tmp_path / "empty"), "There are no models."),
        ("a", ("--from-repository", models, "--from-triton", "http://t"), "Use either --from-triton or"),
        ("a", ("--model", "plain"), "--model needs --from-triton or --from-repository."),
        ("a", ("--from-triton", "http://user:pw@127.0.0.1:1"), "The models of http://127.0.0.1:1 cannot be read."),
        ("a", ("--from-triton", "localhost:8000"), "Triton's URL is invalid: write it as http://host:port"),
        ("there", ("--from-repository", models), "main.py is there already."),
    ):
        done = init(tmp_path / folder, *arguments)
        assert done.exit_code == 2, done.output
        assert words in done.output.replace("\n", " ")
        assert "pw" not in done.output
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "there" / "main.py").read_text() == "mine"
