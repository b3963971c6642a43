# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of `docs/reference/` that are generated from the code: `python scripts/reference_pages.py`.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; the text around it is written by hand.
"""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import orjson
from prometheus_client.metrics import MetricWrapperBase

from fastapi_triton import TritonFrontend
from fastapi_triton.cli.check import runner
from fastapi_triton.core.settings import Settings, variable
from fastapi_triton.endpoints import json_codec
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.triton.datatypes import BY_WIRE, DATATYPES
from fastapi_triton.triton.model_config import TensorConfig

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
ENGINE_METRICS = ROOT / "models/sdxl_scribble_controlnet_stream/1/diffusion_engine/metrics.py"
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
JSON_FORMS = {
    "bool": "`true`, `false`",
    "integer": "integer",
    "float": "number",
    "bytes": 'text, or `{"base64": "…"}`',
}
SHAPES: list[tuple[tuple[int, ...], list[object]]] = [
    ((1,), [[7], 7]),
    ((-1,), [7, [7, 8, 9]]),
    ((2, -1), [[[1, 2, 3], [4, 5, 6]]]),
]
# The first setting of each group → the heading of the group.
SETTING_GROUPS = {
    "triton_url": "Triton",
    "request_timeout_s": "Requests and queues",
    "max_body_bytes": "Bodies and images",
    "head_timeout_s": "Connections and shutdown",
    "api_keys_file": "Access",
    "trusted_proxies": "Proxies",
    "v2": "APIs",
    "jobs_folder": "Background jobs",
    "playground": "The page, metrics and logs",
}


def _table(*columns: str) -> Iterator[str]:
    yield _row(*columns)
    yield _row(*["---"] * len(columns))


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def settings() -> Iterator[str]:
    """Every setting: variable, flag, default, meaning."""
    if unknown := SETTING_GROUPS.keys() - Settings.model_fields.keys():
        raise KeyError(unknown)
    yield from _table("variable, flag", "default", "meaning")
    for name, field in Settings.model_fields.items():
        if name in SETTING_GROUPS:
            yield _row(f"**{SETTING_GROUPS[name]}**", "", "")
        prefix = "--no-" if field.default is True else "--"
        flag = "--triton" if name == "triton_url" else prefix + name.replace("_", "-")
        default = "none" if field.default in (None, "", ()) else f"`{str(field.default).lower()}`"
        yield _row(f"`{variable(name)}`<br>`{flag}`", default, field.description)


def check_rules() -> Iterator[str]:
    """Every rule of `fastapi-triton check`: code, severity, reason, advice."""
    for subject, rules in runner.RULES.items():
        yield from ("", f"## {subject}", "")
        for each in rules:
            yield f"- `{each.code}` ({each.severity}): {each.reason} *{each.advice}*"
    yield ""


def datatypes() -> Iterator[str]:
    """Every datatype of Triton and its form in JSON."""
    yield from _table("Triton", "config.pbtxt", "JSON", "range")
    for each in DATATYPES:
        yield _row(f"`{each.wire}`", f"`{each.config}`", JSON_FORMS[each.kind], each.range_in_words)


def shapes() -> Iterator[str]:
    """What the codec makes of example values, so that the page cannot be wrong."""
    yield from _table("dims", "request", "shape", "response")
    for dims, values in SHAPES:
        tensor = TensorConfig("x", BY_WIRE["INT32"], dims)
        arrays = [json_codec.decode(value, tensor, ImageLimits(max_pixels=1)) for value in values]
        response = orjson.dumps(json_codec.encode(arrays[-1], tensor, "list"), option=orjson.OPT_SERIALIZE_NUMPY)
        yield _row(
            f"`{list(dims)}`",
            " or ".join(f"`{orjson.dumps(value).decode()}`" for value in values),
            " or ".join(dict.fromkeys(f"`{list(array.shape)}`" for array in arrays)),
            f"`{response.decode()}`",
        )


def metrics() -> Iterator[str]:
    """Every metric of the frontend: name with its labels, meaning. Its names are too long for a table."""
    of_app = TritonFrontend(settings=Settings(metrics=True))._metrics
    for collector in of_app.registry._collector_to_names if of_app else ():
        if not isinstance(collector, MetricWrapperBase):
            continue  # those of prometheus_client itself
        for family in collector.describe():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = f"{{{','.join(collector._labelnames)}}}" if collector._labelnames else ""
            meaning = f"{family.documentation} (histogram)" if family.type == "histogram" else family.documentation
            yield f"- `{name}{labels}`: {meaning}."


def engine_metrics() -> Iterator[str]:
    """Every metric of the engine: name, meaning."""
    for name, (_, meaning) in runpy.run_path(str(ENGINE_METRICS))["METRICS"].items():
        yield f"- `{name}`: {meaning}."


TABLES = {
    "settings": settings,
    "check-rules": check_rules,
    "datatypes": datatypes,
    "shapes": shapes,
    "metrics": metrics,
    "engine-metrics": engine_metrics,
}


def with_tables(page: str) -> str:
    """The page with its generated tables as the code has them now."""
    return _BLOCK.sub(lambda block: block[1] + "\n".join(TABLES[block["name"]]()) + "\n" + block[3], page)


def main() -> None:
    for path in REFERENCE.glob("*.md"):
        path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
