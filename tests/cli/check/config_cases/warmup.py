# SPDX-License-Identifier: Apache-2.0
"""Cases of the rule for warm-up requests. The backend `inert` answers them all."""

from config_cases.case import TENSORS, Case, inert

_FP32 = "data_type: TYPE_FP32 dims: 2"
_TEXT = "data_type: TYPE_STRING dims: 1"
_ZERO = "zero_data: true"
_FILE = 'input_data_file: "f"'
_OUTPUT = 'output { name: "y" data_type: TYPE_FP32 dims: 1 }'
_TEXTS = f'input {{ name: "x" {_TEXT} }} {_OUTPUT}'
_OPTIONAL = f'input [ {{ name: "x" {_FP32} }}, {{ name: "o" {_FP32} optional: true }} ] {_OUTPUT}'


def _input(tensor: str = _FP32, data: str = _ZERO, *, name: str = "x") -> str:
    return f'inputs {{ key: "{name}" value {{ {tensor} {data} }} }} '


def _warmup(
    name: str,
    inputs: str,
    words: str = "",
    *,
    batch_size: int = 1,
    more: str = "max_batch_size: 4",
    tensors: str = TENSORS,
    file: bytes | None = None,
) -> Case:
    config = inert(f'{more} model_warmup {{ name: "w" batch_size: {batch_size} {inputs} }}', tensors)
    files = {"m/1/weights": "", **({} if file is None else {"m/warmup/f": file})}
    return Case(name, config, "invalid-warmup" if words else None, words, files)


CASES = [
    _warmup("warm-up", _input()),
    _warmup("warm-up without batching", _input(), more=""),
    _warmup("warm-up over max_batch_size", _input(), batch_size=9),
    _warmup("warm-up of 0 requests", _input(name="z"), batch_size=0),
    _warmup("warm-up without inputs", "", "warmup setting 'w': expected 1 inputs but got 0 inputs; missing: x"),
    _warmup("warm-up of another input", _input(name="z"), "missing: x"),
    _warmup("warm-up of one more input", _input() + _input(name="z")),
    _warmup("warm-up of a free input", _input() + _input("dims: -1", name="z"), "variable-size dimensions"),
    _warmup("warm-up without an optional input", _input(), tensors=_OPTIONAL),
    _warmup("warm-up without a required input", _input(name="o"), tensors=_OPTIONAL),  # Triton compares the count
    _warmup("warm-up INT32", _input("data_type: TYPE_INT32 dims: 2"), "is 'TYPE_INT32', but the model expects"),
    _warmup("warm-up without a type", _input("dims: 2"), "data-type is 'TYPE_INVALID'"),
    _warmup("warm-up dims", _input("data_type: TYPE_FP32 dims: 3"), "unexpected shape: expected dims [2], got [3]"),
    _warmup("warm-up with a batch dim", _input("data_type: TYPE_FP32 dims: [ 1, 2 ]"), "unexpected shape"),
    _warmup("warm-up without dims", _input("data_type: TYPE_FP32"), "got []"),
    _warmup("warm-up of a free dim", _input("data_type: TYPE_FP32 dims: -1"), "dims are [-1]"),
    _warmup(
        "warm-up of -2",
        _input("data_type: TYPE_FP32 dims: -2"),
        "[-2] are negative",
        tensors=f'input {{ name: "x" data_type: TYPE_FP32 dims: -1 }} {_OUTPUT}',
    ),
    Case(
        "warm-up of an input that the backend completes",
        f'backend: "tensorrt" input {{ name: "x" }} {_OUTPUT} model_warmup {{ batch_size: 1 {_input()} }}',
        not_in_triton="the embedded Triton does not have TensorRT",
    ),
    _warmup("warm-up without data", _input(data=""), "expects input_data_type set"),
    _warmup("warm-up with random data", _input(data="random_data: false")),
    _warmup("warm-up of passive instances", "", more="instance_group { passive: true }"),
    _warmup("warm-up of sequences", _input(), more="max_batch_size: 4 sequence_batching { }"),
    _warmup("warm-up file", _input(data=_FILE), file=b"12345678"),
    _warmup("warm-up file too short", _input(data=_FILE), "expects 8 bytes, but the data provided", file=b"1234567"),
    _warmup("warm-up file too long", _input(data=_FILE), file=b"123456789"),
    _warmup("warm-up file missing", _input(data=_FILE), "failed to open text file for read warmup/f"),
    _warmup("warm-up texts", _input(_TEXT), tensors=_TEXTS),
    _warmup("warm-up file of texts", _input(_TEXT, _FILE), tensors=_TEXTS, file=b"\1\0\0\0a"),
    _warmup("warm-up file of two", _input(_TEXT, _FILE), "got more", tensors=_TEXTS, file=b"\1\0\0\0a\1\0\0\0a"),
    _warmup("warm-up file of none", _input(_TEXT, _FILE), "expected 1 string elements", tensors=_TEXTS, file=b"a"),
]
