# SPDX-License-Identifier: Apache-2.0
"""The command: writes the input data, measures a model by Triton and by the frontend in turn, or one endpoint."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from fastapi_triton.cli.errors import fail, invalid_settings
from fastapi_triton.cli.perf import aiperf, analyzer, comparison, endpoint_records, input_data
from fastapi_triton.cli.perf.tool import PerfError, ToolError
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.core.settings import Settings
from fastapi_triton.observability.logging_config import printable_lines
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.credentials import OPEN_TO_ALL, Access

# The options that only one of the tools has, by parameter.
_ONLY_MODELS = {
    "triton": "--triton",
    "batch_size": "--batch-size",
    "window_ms": "--window-ms",
    "perf_analyzer": "--perf-analyzer",
    "data_only": "--data-only",
}
_ONLY_ENDPOINTS = {"aiperf_program": "--aiperf", "key": "--key"}


def perf(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|PATH",
            help="A model's name, for perf_analyzer; or the path of an endpoint such as /v1/images/generations, for "
            "aiperf.",
        ),
    ],
    request: Annotated[
        list[Path], typer.Option("--input", help="A JSON file with a request, or a folder of them. Repeat for several.")
    ],
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            metavar="NAME=PATH",
            help="Read an input from a file, or from each file of a folder; sent as base64.",
        ),
    ] = None,
    triton: Annotated[
        str, typer.Option("--triton", envvar="TRITON_URL", help="URL of Triton's HTTP port.")
    ] = "http://localhost:8000",
    frontend: Annotated[str, typer.Option("--frontend", help="URL of the frontend.")] = "http://localhost:8080",
    concurrency: Annotated[str, typer.Option(help="Concurrent requests, comma-separated.")] = "1,4",
    batch_size: Annotated[int, typer.Option(min=1, help="Batch size of a request.")] = 1,
    requests: Annotated[
        int, typer.Option(min=1, help="Minimum requests per measured window, or per run of aiperf.")
    ] = 50,
    window_ms: Annotated[int, typer.Option(min=10, help="Minimum milliseconds per window.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="How often both are measured, in turn.")] = 3,
    output: Annotated[Path, typer.Option(help="Folder for data, reports and plot.")] = Path("perf-results"),
    perf_analyzer: Annotated[Path | None, typer.Option(help="Path of the binary.")] = None,
    aiperf_program: Annotated[Path | None, typer.Option("--aiperf", help="Path of the program aiperf.")] = None,
    key: Annotated[
        str | None,
        typer.Option(envvar=aiperf.KEY_VARIABLE, help="The frontend's API key, for aiperf.", show_default=False),
    ] = None,
    install: Annotated[bool, typer.Option("--install", help="Install the tool first, for this user.")] = False,
    data_only: Annotated[bool, typer.Option("--data-only", help="Write only the input data.")] = False,
) -> None:
    """Measure with NVIDIA's tools: a model through the frontend and without it, or the latency of one endpoint."""
    try:
        is_endpoint = target.startswith("/")
        _require_options(context, _ONLY_MODELS if is_endpoint else _ONLY_ENDPOINTS, target)
        levels = [comparison.Level(each) for each in _concurrencies(concurrency)]
        requests_with_files = input_data.with_files(input_data.read_requests(request), _named(files or []))
        output.mkdir(parents=True, exist_ok=True)
        if is_endpoint:
            endpoint = aiperf.Endpoint(str(_address(frontend)), target, key)
            program = aiperf.install() if install else aiperf.find(aiperf_program)
            _measure_endpoint(program, endpoint, requests_with_files, levels, requests, rounds, output)
            return
        access = Access.of(Settings())
        data = input_data.document(requests_with_files, asyncio.run(_config(triton, target, access=access)))
        data_path = output / f"{target}.json"
        data_path.write_bytes(data)
        if data_only:
            typer.echo(f"Wrote {data_path}: {len(requests_with_files)} request{'s' * (len(requests_with_files) != 1)}.")
            return
        binary = analyzer.install() if install else analyzer.find(perf_analyzer)
        asyncio.run(_config(frontend, target, name="the frontend"))
        loads = [analyzer.Load(target, level.concurrency, batch_size, requests, window_ms) for level in levels]
        server, own = analyzer.Target.of(_address(triton), access), analyzer.Target.of(_address(frontend), OPEN_TO_ALL)
        _measure_model(binary, server, own, data_path, levels, loads, rounds)
        _report(target, comparison.table(target, levels), levels, output)
    except ValidationError as error:  # of the settings
        fail(invalid_settings(error))
    except ToolError as error:
        fail(str(error), status=1)
    except PerfError as error:
        fail(str(error))


def _require_options(context: typer.Context, others: Mapping[str, str], target: str) -> None:
    """Reject options of the other tool."""
    for parameter, option in others.items():
        source = context.get_parameter_source(parameter)
        if source is not None and source.name == "COMMANDLINE":
            kind = "an endpoint, which aiperf measures" if target.startswith("/") else "a model, for perf_analyzer"
            if "/" in target and not target.startswith("/"):
                kind += f"; for an endpoint, write /{target}"
            raise PerfError(f"{option} has no effect here: {target} is {kind}.")


def _measure_model(
    binary: Path,
    triton: analyzer.Target,
    frontend: analyzer.Target,
    data_path: Path,
    levels: list[comparison.Level],
    loads: list[analyzer.Load],
    rounds: int,
) -> None:
    """Measure Triton and the frontend in turn."""
    for number in range(1, rounds + 1):
        for level, load in zip(levels, loads, strict=True):
            for way, server, measured in (("triton", triton, level.triton), ("frontend", frontend, level.frontend)):
                typer.echo(f"round {number} of {rounds}: {level.concurrency} at once, {way}", err=True)
                report = data_path.with_name(f"{load.model}-{way}-{level.concurrency}-{number}.csv")
                measured.append(analyzer.run(binary, load, target=server, input_data=data_path, report=report))


def _measure_endpoint(
    program: Path,
    endpoint: aiperf.Endpoint,
    requests: Sequence[input_data.Request],
    levels: list[comparison.Level],
    num_requests: int,
    rounds: int,
    output: Path,
) -> None:
    name = re.sub(r"[^\w.-]+", "-", endpoint.path).strip("-")
    records = output / f"{name}.jsonl"
    records.write_bytes(endpoint_records.lines(requests, endpoint))
    for number in range(1, rounds + 1):
        for level in levels:
            typer.echo(f"round {number} of {rounds}: {level.concurrency} at once", err=True)
            level.frontend.append(
                aiperf.run(
                    program,
                    endpoint,
                    records=records,
                    concurrency=level.concurrency,
                    num_requests=max(num_requests, level.concurrency),
                    folder=output / f"{name}-{level.concurrency}-{number}",
                )
            )
    _report(name, comparison.endpoint_table(endpoint.path, levels), levels, output)


def _report(model: str, table: Table, levels: list[comparison.Level], output: Path) -> None:
    Console().print(table)
    comparison.write_json(output / f"{model}-results.json", model, levels)
    typer.echo(f"Every measurement: {output / f'{model}-results.json'}")
    try:
        comparison.plot(output / f"{model}.svg", model, levels)
        typer.echo(f"Plot: {output / f'{model}.svg'}")
    except PerfError as error:
        typer.echo(printable_lines(str(error)))


async def _config(url: str, model: str, *, name: str = "Triton", access: Access = OPEN_TO_ALL) -> ModelConfig:
    address = _address(url)
    try:
        async with HTTPTriton(url, access=access) as client:
            return await client.config(model)
    except FastAPITritonError as error:
        if error.code == "model_not_ready":
            hint = "" if name == "Triton" else " Check that it runs without --no-v2."
            raise PerfError(f"{name} at {address} has no model {model}.{hint}") from None
        raise PerfError(
            f"{name} at {address} does not respond ({error.detail}). Start it, or check --triton and --frontend."
        ) from None


def _address(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise PerfError(f"{url.rpartition('@')[2]} does not have the form http://host:port.")
    return Address.of(url)


def _concurrencies(text: str) -> list[int]:
    if not all(each.strip().isdecimal() and int(each) > 0 for each in text.split(",")):
        raise PerfError(f"--concurrency must be whole numbers with commas, as in 1,4,8; not {text}.")
    return sorted({int(each) for each in text.split(",")})


def _named(files: list[str]) -> dict[str, Path]:
    if not all("=" in each for each in files):
        raise PerfError("--file must have the form NAME=PATH, as in --file image=scribbles/.")
    return {name: Path(path) for name, _, path in (each.partition("=") for each in files)}
