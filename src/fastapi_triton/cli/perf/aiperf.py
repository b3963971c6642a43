# SPDX-License-Identifier: Apache-2.0
"""Finds, installs and runs NVIDIA's aiperf, and reads its report.

aiperf sends requests to one endpoint. Everything about a run is in one config file, which the user can run again.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from fastapi_triton.cli.perf import tool
from fastapi_triton.cli.perf.tool import Measurement, PerfError, ToolError

# The version that the tests use.
PACKAGE = "aiperf==0.13.0"
HOW_TO_INSTALL = """\
aiperf was not found. Do one of these:
  fastapi-triton perf … --install      install it into {folder} (1.2 GB)
  pip install aiperf                   into any environment, best into one of its own
  fastapi-triton perf … --aiperf       name the path of the program"""
# The environment variable with the API key. The config file refers to it, so that the key is in no file.
KEY_VARIABLE = "FASTAPI_TRITON_KEY"
# A name that OpenAI's endpoints accept for any model; a request's own `model` replaces it.
MODEL = "gpt-image-1"
_MAX_ERRORS = 3
# aiperf counts tokens even where there are none, and would load a tokenizer from a model hub for it.
_TOKENIZER = {
    "tokenizer.json": {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
    },
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"},
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint to measure, and an API key for it. `url` is the frontend's, `path` has the query.

    `kind` is aiperf's endpoint type; `template` sends any JSON object.
    """

    url: str
    path: str
    key: str | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        kinds = {"/v1/images/generations": "image-generation", "/v1/images/edits": "image-edit"}
        return kinds.get(self.path.partition("?")[0], "template")


def find(named: Path | None) -> Path:
    """The program. Raises what `tool.find` raises."""
    return tool.find("aiperf", named, HOW_TO_INSTALL)


def install(folder: Path | None = None) -> Path:
    """Install aiperf into an environment of its own, by default in the user's cache.

    Raises:
        PerfError: the installation failed.
    """
    folder = folder or tool.cache_folder("aiperf")
    python = folder / "bin" / "python"
    for command in (
        (sys.executable, "-m", "venv", str(folder)),
        (str(python), "-m", "pip", "install", "--disable-pip-version-check", PACKAGE),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PerfError(f"aiperf could not be installed:\n{(done.stderr or done.stdout).strip()}")
    return folder / "bin" / "aiperf"


def run(
    program: Path, endpoint: Endpoint, *, records: Path, concurrency: int, num_requests: int, folder: Path
) -> Measurement:
    """Measure an endpoint, and keep aiperf's reports in `folder`. `records` has the requests, one JSON object a line.

    Raises:
        ToolError: aiperf or a request failed. The text has the errors.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config_path = folder / "aiperf.json"
    config = _config(endpoint, records=records, concurrency=concurrency, num_requests=num_requests, folder=folder)
    config_path.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    command = (str(program), "profile", "--config", str(config_path))
    environment = {**os.environ, **({} if endpoint.key is None else {KEY_VARIABLE: endpoint.key})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    report = folder / "profile_export_aiperf.json"
    if done.returncode != 0 or not report.is_file():
        raise ToolError(f"aiperf failed against {endpoint.path}:\n{_errors(folder) or _last_lines(done.stderr)}")
    return read_report(report)


def _config(endpoint: Endpoint, *, records: Path, concurrency: int, num_requests: int, folder: Path) -> dict[str, Any]:
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    for name, content in _TOKENIZER.items():
        (tokenizer / name).write_bytes(orjson.dumps(content))
    target: dict[str, Any] = {"urls": [endpoint.url], "type": endpoint.kind, "path": endpoint.path}
    if endpoint.key is not None:
        target["apiKey"] = f"${{{KEY_VARIABLE}}}"
    if endpoint.kind == "template":
        # The request is in the record's `extra`. aiperf expects text in a response: the names of its members.
        target["template"] = {"body": "{}", "responseField": "to_string(keys(@))"}
    phase = {"type": "concurrency", "concurrency": concurrency}
    return {
        "schemaVersion": "2.0",
        "benchmark": {
            "model": MODEL,
            "endpoint": target,
            "dataset": {"type": "file", "path": str(records.absolute()), "format": "single_turn"},
            "phases": [
                {"name": "warmup", **phase, "requests": concurrency, "excludeFromResults": True},
                {"name": "profiling", **phase, "requests": num_requests},
            ],
            "tokenizer": {"name": str(tokenizer.absolute())},
            "artifacts": {"dir": str(folder.absolute())},
            "gpuTelemetry": {"enabled": False},
            "serverMetrics": {"enabled": False},
            "runtime": {"ui": "none"},
        },
    }


def read_report(report: Path) -> Measurement:
    """The measurement in aiperf's JSON report.

    Raises:
        ToolError: requests failed, or the report cannot be read.
    """
    try:
        read = orjson.loads(report.read_bytes())
        if failed := int((read.get("error_request_count") or {}).get("avg", 0)):
            raise ToolError(f"{failed} requests failed:\n{_errors(report.parent)}")
        latency = read["request_latency"]
        p50, p95, p99 = (float(latency[name]) for name in ("p50", "p95", "p99"))
        return Measurement(float(read["request_throughput"]["avg"]), p50, p95, p99)
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"aiperf's report {report} cannot be read: {error!r}.") from None


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-10:])


def _errors(folder: Path) -> str:
    """The first different errors of the requests, from the records that aiperf keeps of each."""
    records = folder / "profile_export.jsonl"
    if not records.is_file():
        return ""
    found = (orjson.loads(line).get("error") for line in records.read_text().splitlines())
    texts = [_text(each.get("code"), str(each.get("message"))) for each in found if each]
    return "\n".join(list(dict.fromkeys(texts))[:_MAX_ERRORS])


def _text(status: int | None, message: str) -> str:
    if "ClientConnectorError" in message:  # aiohttp's, as Python writes it
        return "The frontend cannot be reached. Start it, or check --frontend."
    return f"{status}: {_detail(message)}"


def _detail(message: str) -> str:
    """The detail of a problem object, or the message itself."""
    try:
        return str(orjson.loads(message)["detail"])
    except (ValueError, KeyError, TypeError):
        return message.strip()[:500]
