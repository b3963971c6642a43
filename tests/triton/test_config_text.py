# SPDX-License-Identifier: Apache-2.0
"""A parsed config.pbtxt equals the config that a server returns; parse errors have line and column."""

import math
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


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r'"\a\b\f\n\r\t\v\\\?\'\""', "\a\b\f\n\r\t\v\\?'\""),
        (r'"\101\x41\x414\u00e9\U0001F600"', "AAA4é😀"),
        (r""""\ud83d\ude00" "\xc3" '\xa9' """, "😀é"),
        (r'"\U0011ffff\400"', "\\U0011ffff\0"),
        (r'"\ud83d \xff"', "\ufffd \ufffd"),
        ('"é\u00a0#"', "é\u00a0#"),
    ],
)
def test_escape_sequences_in_strings(written: str, value: str) -> None:
    config = config_text.parse(f'parameters {{ key: "k" value {{ string_value: {written} }} }}')
    assert config["parameters"]["k"]["string_value"] == value


@pytest.mark.parametrize(("written", "value"), [("0x10", 16), ("010", 8), ("- 0", 0), ("2147483647", 2147483647)])
def test_integers(written: str, value: int) -> None:
    assert config_text.parse(f"max_batch_size: {written}")["max_batch_size"] == value


@pytest.mark.parametrize(("written", "value"), [("1f", 1.0), (".5", 0.5), ("1.e-1F", 0.1), ("-Infinity", -math.inf)])
def test_floats(written: str, value: float) -> None:
    config = config_text.parse(f"sequence_batching {{ direct {{ minimum_slot_utilization: {written} }} }}")
    assert config["sequence_batching"]["direct"]["minimum_slot_utilization"] == pytest.approx(value)


def test_a_missing_name_is_taken_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "my_model").mkdir()
    path = tmp_path / "my_model" / "config.pbtxt"
    path.write_text('backend: "python"')
    assert from_server(config_text.read(path)).name == "my_model"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size: 8\nmax_batchsize: 1",
            ':2:1: Message type "inference.ModelConfig" has no field named "max_batchsize"; '
            "did you mean `max_batch_size`?",
        ),
        ("max_batch_size: x", ":1:17: Expected integer, got: x"),
        ("max_batch_size:", ":1:16: Expected integer, got: the end of the file"),
        (
            "input [ { data_type: TYPE_F32 } ]",
            ':1:22: Unknown enumeration value of "TYPE_F32" for field "data_type"; did you mean `TYPE_FP32`?',
        ),
        ('name: "a"\nname: "b"', ':2:1: Non-repeated field "name" is specified multiple times'),
        (
            "input [ {",
            ':1:10: Expected "}", found the end of the file; the `{` of line 1, column 9 is not closed',
        ),
        ('\n name: "a', ":2:8: Unexpected end of string"),
        (
            "ensemble_scheduling {} dynamic_batching {}",
            'Field "dynamic_batching" is specified along with field "ensemble_scheduling", another member of oneof '
            '"scheduling_choice"',
        ),
        ("# comment\n max_batch_size:\u00a08", ":2:17: Interpreting non ascii codepoint 194: U+00A0 NO-BREAK SPACE"),
        (
            "max_batch_size: ${size}",
            ":1:17: Expected integer, got: ${size}, a placeholder that was never filled in",
        ),
        (
            'max_batch_size: "${size}"',
            ':1:17: Expected integer, got: "${size}", a placeholder that was never filled in',
        ),
        ("${more}", ":1:1: Expected identifier, got: ${more}, a placeholder that was never filled in"),
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
    (tmp_path / "config.pbtxt").write_bytes("name".encode("utf-16"))
    with pytest.raises(
        config_text.ConfigTextError, match=r"config\.pbtxt:1:1: .* codepoint 255: the file is not UTF-8"
    ):
        config_text.read(tmp_path / "config.pbtxt")


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(config_text.ConfigTextError, match=r"pip install 'fastapi-triton\[check\]'"):
        config_text.read(CONFIG)


def test_the_command_line_imports_the_extra_only_when_it_is_needed() -> None:
    unloaded = "all(each not in sys.modules for each in ('grpc', 'google.protobuf'))"
    code = f"import sys, fastapi_triton.cli.main; sys.exit(not {unloaded})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
