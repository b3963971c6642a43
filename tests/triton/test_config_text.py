# SPDX-License-Identifier: Apache-2.0
"""A parsed config.pbtxt equals the config that a server returns; parse errors have line and column."""

import subprocess
import sys
from pathlib import Path

import pytest

from fastapi_triton.triton import config_text
from fastapi_triton.triton.model_config import from_server
from support.paths import ROOT
from support.scribble_app import MODEL

CONFIG = ROOT / "models" / MODEL / "config.pbtxt"


def test_enums_are_names_and_64_bit_integers_are_numbers() -> None:
    config = config_text.parse(
        'name: "m" input { name: "x" data_type: TYPE_BF16 dims: [ -1, 3 ] reshape { shape: [ 3 ] } }'
        " dynamic_batching { max_queue_delay_microseconds: 100 priority_queue_policy { key: 7 value"
        " { default_timeout_microseconds: 5 } } }"
        ' model_warmup { name: "w" inputs { key: "x" value { dims: 4 data_type: TYPE_FP32 zero_data: true } } }'
        ' parameters { key: "k" value { string_value: "12" } }'
    )
    (tensor,) = config["input"]
    assert (tensor["data_type"], tensor["dims"], tensor["reshape"]) == ("TYPE_BF16", [-1, 3], {"shape": [3]})
    assert tensor["optional"] is False  # defaults are included, as in a server's response
    batching = config["dynamic_batching"]
    assert batching["max_queue_delay_microseconds"] == 100
    assert next(iter(batching["priority_queue_policy"].values()))["default_timeout_microseconds"] == 5
    assert config["model_warmup"][0]["inputs"]["x"]["dims"] == [4]
    assert config["parameters"] == {"k": {"string_value": "12"}}


def test_a_missing_name_is_taken_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "my_model").mkdir()
    path = tmp_path / "my_model" / "config.pbtxt"
    path.write_text('backend: "python"')
    assert from_server(config_text.read(path)).name == "my_model"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 8\nfoo: 1", ":2:1: ModelConfig has no field `foo`"),
        ("max_batch_size: x", ":1:17: x is not a whole number"),
        ("input [ { data_type: TYPE_FP33 } ]", ":1:22: DataType has no value TYPE_FP33"),
        ("input { dimz: 1 }", ":1:9: ModelInput has no field `dimz`"),
        ('name: "a"\nname: "b"', ":2:7: ModelConfig has more than one `name`"),
        ("input [ {", 'Expected "}"'),
        ('name: "a', ":1:7: String missing ending quote"),
        (
            "ensemble_scheduling {} dynamic_batching {}",
            "`dynamic_batching` and `ensemble_scheduling` cannot be used together",
        ),
    ],
)
def test_a_parse_error_has_line_column_and_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(text)
    with pytest.raises(config_text.ConfigTextError) as raised:
        config_text.read(path)
    assert str(raised.value).startswith(f"{path}:")
    assert message in str(raised.value)


def test_the_error_for_an_unreadable_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(config_text.ConfigTextError, match=r"config\.pbtxt cannot be read"):
        config_text.read(tmp_path / "config.pbtxt")
    (tmp_path / "config.pbtxt").write_bytes(b"\xff\xfe")
    with pytest.raises(config_text.ConfigTextError, match=r"config\.pbtxt cannot be read"):
        config_text.read(tmp_path / "config.pbtxt")


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(config_text.ConfigTextError, match=r"pip install 'fastapi-triton\[check\]'"):
        config_text.read(CONFIG)


def test_the_command_line_imports_the_extra_only_when_it_is_needed() -> None:
    unloaded = "all(each not in sys.modules for each in ('grpc', 'google.protobuf'))"
    code = f"import sys, fastapi_triton.cli.main; sys.exit(not {unloaded})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
