# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of `docs/` that are generated from the code: `python scripts/reference_pages.py`."""

from pathlib import Path

import orjson

from fastapi_triton.cli.check import runner
from fastapi_triton.core.settings import Settings, variable
from fastapi_triton.endpoints import json_codec
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.triton.datatypes import BY_WIRE, DATATYPES
from fastapi_triton.triton.model_config import TensorConfig

DOCS = Path(__file__).parent.parent / "docs"
JSON_FORMS = {
    "bool": "`true`, `false`",
    "integer": "a number without a decimal point",
    "float": 'a number, or `"NaN"`, `"Infinity"`, `"-Infinity"`',
    "bytes": 'text, or `{"base64": "…"}`',
}
SHAPES: list[tuple[tuple[int, ...], list[object]]] = [
    ((1,), [[7], 7]),
    ((-1,), [7, [7, 8, 9]]),
    ((1, 1), [7, [[7]]]),
    ((3,), [[7, 8, 9]]),
    ((2, -1), [[[1, 2, 3], [4, 5, 6]]]),
    ((-1, -1), [7, [[1, 2, 3], [4, 5, 6]]]),
]
DATATYPES_TEXT = """
JSON is taken at its word: `true` is no 1, `3.0` no whole number, `"3"` no number, and `null` nothing at all: leave an
optional input out. What does not fit is refused with 422 and named, with its place (`#/pixels/0/2`), all problems at
once; a member that the model does not have is named with the nearest right one. Nothing is ever wrapped, cut off or
rounded to infinity; a float is rounded to the nearest that the datatype has.

- **NaN and Infinity** do not exist in JSON. Where the datatype has them they are the texts `"NaN"`, `"Infinity"` and
  `"-Infinity"`, in requests and in answers; a bare `NaN` is refused, and no answer holds `null` in its place.
- **Whole numbers above 2^53** are exact here, but not in JavaScript's own numbers.
- **FP16 and BF16** go to Triton in binary, since it takes neither as JSON.
- **Text** is UTF-8. Bytes that are not go as `{"base64": "…"}`, in requests and in answers.

## Inputs and outputs

The body is one object with a member per input; the answer is one with a member per output, except for those that the
model leaves out. An input with `optional: true` may be left out; Triton takes no request without any input, though.

## Dims

`dims` is what a caller sends, without the batch dimension; `-1` is any length, 0 too. `reshape` does not matter: Triton
applies it later. Where every dim is 1 or -1, one value may be given plainly. An answer is a plain value only where
every dim is 1, so that its type never depends on how many there happen to be.
"""
AFTER_SHAPES = """
## Batches

A body that is a list of objects is a batch: each is one row, at most `max_batch_size` of them, and the answer is the
list of their answers, in order. A single object is a batch of one to Triton, and is answered with a single object. All
rows must agree in the shapes of their tensors, and in which optional inputs they have. A model with `max_batch_size: 0`
takes no batches, and neither does a decoupled one.

## Arrays of numbers

Instead of nested lists an array, of any datatype but BYTES, may be

- `{"npy": "…"}`: a `.npy` file in base64, as `numpy.save` writes it, with the tensor's own dtype (`float32` for BF16).
  Nothing is unpickled.
- `{"base64": "…", "shape": [2, 3]}`: its bytes, little-endian, row by row; BF16 is two bytes, BOOL is one, 0 or 1.
  `shape` may be left out where the dims leave only one that fits.

Either may hold NaN and Infinity. `?arrays=npy` or `?arrays=base64` asks for such an answer; single values stay plain.

## What a BYTES tensor holds

Its datatype does not say. A parameter in the model's `config.pbtxt`, which Triton ignores, does:

```
parameters { key: "content.<tensor>" value { string_value: "image" } }
```

| content | in JSON | in the tensor |
| --- | --- | --- |
| none | text, or `{"base64": "…"}` | its bytes |
| `text` | text | its bytes, UTF-8 |
| `binary` | base64 text | the bytes |
| `image` | base64 text or a data URL; a PNG, JPEG, WebP, GIF or BMP picture within the limits | the file's bytes |
| `base64_image` | the same | base64 text |

`GET /models/{name}` tells each tensor's content, and warns of a hint that names no such tensor.

## Decoupled models

They answer with server-sent events: `response` with each JSON answer, then `completed`, or `error` with the problem.
They are asked by Triton's `generate_stream`, which carries at most one dimension, and no FP16 or BF16: a model with
such tensors has no endpoint, and `GET /models/{name}` says why. So has a sequence model, whose requests need a sequence
id. Text must be UTF-8 there. NaN and Infinity can be answered, but not sent.
"""


def settings_page() -> str:
    """Every setting: variable, flag, default, meaning."""
    rows = [
        "# Settings",
        "",
        "Each is an environment variable and a flag of `fastapi-triton serve`; the flag wins. Written by `make docs`.",
        "",
        "| variable | flag | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        is_url = name == "triton_url"
        prefix = "--no-" if field.default is True else "--"
        flag = "--triton" if is_url else prefix + name.replace("_", "-")
        default = "none" if field.default in ("", ()) else f"`{field.default}`"
        rows.append(f"| `{variable(name)}` | `{flag}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def check_page() -> str:
    """Every rule of `fastapi-triton check`: code, severity, why, what to do."""
    rows = [CHECK_INTRODUCTION]
    for subject, rules in runner.RULES.items():
        rows += ["", f"## {subject}", "", "| rule | severity | why | what to do |", "| --- | --- | --- | --- |"]
        rows += [f"| `{each.code}` | {each.severity} | {each.reason} | {each.advice} |" for each in rules]
    return "\n".join(rows) + "\n"


CHECK_INTRODUCTION = """# What `fastapi-triton check` looks at

`fastapi-triton check [main:app] [models/]` holds an app's endpoints against `config.pbtxt` files, and says what in the
configs, the Python models and the settings will hurt; no server is needed. `--triton URL` looks at a running Triton
too, and holds the endpoints against what it serves; it only reads, unless `--trial` has it send every plain model one
request of zeros and empty texts. Reading `config.pbtxt` takes an extra: `pip install 'fastapi-triton[check]'`.

It ends with 0 where there is no problem, with 1 where there is an error or a warning that is not waived, and with 2
where it could not look. Notes fail nothing. `--json` is for programs: `problems` is their number, and each of
`findings` has `code`, `severity`, `where`, `detail`, `advice` and `waived`, the reason if there is one.

A rule is waived for one model in its config, with the reason; without a reason the waiver does not count:

```protobuf
parameters {
  key: "waive.no-dynamic-batching"
  value { string_value: "execute never waits; what is over max_open_rows is refused" }
}
```

The rules, written by `make docs`:"""


def datatypes_page() -> str:
    """Every datatype, and how a tensor's config maps to JSON."""
    rows = [
        "# Datatypes",
        "",
        "How the inputs and outputs of a model's `config.pbtxt` look in the JSON of `POST /models/{name}/infer`. "
        "Written by `make docs` from the code.",
        "",
        "| Triton | config.pbtxt | numpy | JSON | range |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in DATATYPES:
        numpy = "object (bytes)" if each.kind == "bytes" else str(each.numpy)
        rows.append(
            f"| `{each.wire}` | `{each.config}` | `{numpy}` | {JSON_FORMS[each.kind]} | {each.range_in_words} |"
        )
    rows += ["", *DATATYPES_TEXT.strip().splitlines(), "", *_shape_rows(), "", *AFTER_SHAPES.strip().splitlines()]
    return "\n".join(rows) + "\n"


def _shape_rows() -> list[str]:
    """What the code itself makes of some dims, so that the page cannot be wrong."""
    rows = ["| dims | a request may hold | the shape | the answer holds |", "| --- | --- | --- | --- |"]
    for dims, values in SHAPES:
        tensor = TensorConfig("x", BY_WIRE["INT32"], dims)
        arrays = [json_codec.decode(value, tensor, ImageLimits(max_pixels=1)) for value in values]
        answer = orjson.dumps(json_codec.encode(arrays[-1], tensor, "list"), option=orjson.OPT_SERIALIZE_NUMPY)
        told = " or ".join(f"`{orjson.dumps(value).decode()}`" for value in values)
        shapes = " or ".join(dict.fromkeys(f"`{list(array.shape)}`" for array in arrays))
        rows.append(f"| `{list(dims)}` | {told} | {shapes} | `{answer.decode()}` |")
    return rows


PAGES = {"settings.md": settings_page, "check.md": check_page, "datatypes.md": datatypes_page}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
