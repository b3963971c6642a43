# SPDX-License-Identifier: Apache-2.0
"""Asks a running Triton what the rules of `server.py` look at. It only reads, but for the trial, which runs models."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import aiohttp
import numpy as np
import orjson

from fastapi_triton.errors import FastAPITritonError, TritonUnavailableError
from fastapi_triton.lint.server import Output, ServedModel, ServerFacts, Trial
from fastapi_triton.model_config import ModelConfig, TensorConfig, from_server
from fastapi_triton.settings import Settings
from fastapi_triton.triton.client import Tensor
from fastapi_triton.triton.http import HTTPTriton

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `told` is None where it is no JSON."""

    status: int
    told: Any
    encoding: str


async def look(
    url: str, models: Iterable[str], *, texts: Mapping[str, ModelConfig | None], settings: Settings, has_trial: bool
) -> tuple[ServerFacts, list[ServedModel]]:
    """What Triton says of itself, of these models, and of all others that it has loaded.

    Raises:
        TritonUnavailableError: nothing answers there.
    """
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    headers = {"Accept-Encoding": "identity"}
    try:
        async with aiohttp.ClientSession(url.rstrip("/"), timeout=timeout, headers=headers) as session:
            facts = await _facts(session)
            index = (await _ask(session, "POST", "/v2/repository/index")).told or []
            loaded = [each["name"] for each in index if each.get("state") == "READY"]
            names = sorted({*models, *loaded})
            served = [await _model(session, name, facts, texts.get(name), settings) for name in names]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise TritonUnavailableError(f"No Triton answers at {url}: {error or type(error).__name__}.") from None
    if has_trial:
        served = [await _tried(url, each) for each in served]
    return facts, served


async def _facts(session: aiohttp.ClientSession) -> ServerFacts:
    about, ready, memory, trace = await asyncio.gather(
        *(
            _ask(session, "GET", path)
            for path in ("/v2", "/v2/health/ready", "/v2/systemsharedmemory/status", "/v2/trace/setting")
        )
    )
    if about.status != 200 or not isinstance(about.told, dict) or "version" not in about.told:
        raise TritonUnavailableError("What answers there is no Triton.")
    mode = (trace.told or {}).get("trace_mode", "") if trace.status == 200 else ""
    return ServerFacts(str(about.told["version"]), ready.status == 200, memory.status == 200, str(mode))


async def _model(
    session: aiohttp.ClientSession, name: str, facts: ServerFacts, text: ModelConfig | None, settings: Settings
) -> ServedModel:
    path = f"/v2/models/{quote(name, safe='')}"
    ready, config, stats = await asyncio.gather(
        *(_ask(session, "GET", path + end) for end in ("/ready", "/config", "/stats"))
    )
    return ServedModel(
        name=name,
        is_ready=ready.status == 200,
        is_server_ready=facts.is_ready,
        raw=config.told if config.status == 200 else None,
        settings=settings,
        text=text,
        content_encoding=config.encoding,
        mean_s=_mean_s(stats.told) if stats.status == 200 else 0.0,
    )


async def _ask(session: aiohttp.ClientSession, method: str, path: str) -> Reply:
    async with session.request(method, path) as answer:
        body = await answer.read()
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            told = None
        return Reply(answer.status, told, answer.headers.get("Content-Encoding", ""))


def _mean_s(stats: Any) -> float:
    """How long a successful request takes from its arrival to its answer."""
    done = [each.get("inference_stats", {}).get("success", {}) for each in stats.get("model_stats", ())]
    count = sum(int(each.get("count", 0)) for each in done)
    return sum(int(each.get("ns", 0)) for each in done) / count / 1e9 if count else 0.0


async def _tried(url: str, model: ServedModel) -> ServedModel:
    config = None if model.raw is None else from_server(model.raw)
    if config is None or config.decoupled:
        return model
    inputs = {each.name: _nothing(each, is_batched=config.is_batched) for each in config.inputs if not each.optional}
    try:
        async with HTTPTriton(url, request_timeout_s=model.settings.request_timeout_s) as client:
            outputs = await client.infer(model.name, inputs)
    except FastAPITritonError as error:
        trial = Trial(refused=error.detail)
    else:
        trial = Trial(
            tuple(Output(name, each.datatype.wire, tuple(each.array.shape)) for name, each in outputs.items())
        )
    return replace(model, trial=trial)


def _nothing(tensor: TensorConfig, *, is_batched: bool) -> Tensor:
    """Zeros, or empty texts, in the smallest shape."""
    shape = ((1,) if is_batched else ()) + tuple(1 if dim == -1 else dim for dim in tensor.dims)
    if tensor.datatype.kind == "bytes":
        return Tensor.of_bytes(tensor.datatype, b"", shape)
    return Tensor(tensor.datatype, np.zeros(shape, tensor.datatype.numpy))
