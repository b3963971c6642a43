# SPDX-License-Identifier: Apache-2.0
"""Reads from a running Triton what `rules_server` checks. Only the trial runs models."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from fastapi_triton.cli.check.rules_server import Output, ServedModel, ServerFacts, Trial
from fastapi_triton.core.errors import FastAPITritonError, ModelNotReadyError, TritonUnavailableError
from fastapi_triton.core.settings import Settings
from fastapi_triton.triton.error_mapping import SuspectedDeathError, require_triton
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig, from_server
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.credentials import Access

# If clients may not use shared memory, current Tritons still report its status, but reject this request. No region has
# this name, so the request changes nothing.
_UNREGISTER_UNKNOWN = "/v2/systemsharedmemory/region/fastapi_triton_check/unregister"


@dataclass(frozen=True, slots=True)
class Reply:
    """One response. `json` is None if the body is not JSON."""

    status: int
    json: Any
    encoding: str
    text: bytes


async def read(
    url: str, models: Iterable[str], *, texts: Mapping[str, ModelConfig | None], settings: Settings, has_trial: bool
) -> tuple[ServerFacts, list[ServedModel]]:
    """Facts about Triton, about these models, and about all other loaded models.

    Raises:
        TritonUnavailableError: no Triton responds there.
    """
    try:
        access = Access.of(settings)
        async with HTTPTriton(url, request_timeout_s=settings.request_timeout_s, access=access) as triton:
            facts = await _facts(triton)
            index = (await _request(triton, "POST", "/v2/repository/index")).json or []
            loaded = [each["name"] for each in index if each.get("state") == "READY"]
            names = sorted({*models, *loaded})
            served = [await _model(triton, name, texts.get(name), settings) for name in names]
            if has_trial:
                served = [await _with_trial(triton, each) for each in served]
    except TritonUnavailableError as error:
        raise TritonUnavailableError(f"No Triton responds at {Address.of(url)}: {error.detail}") from None
    return facts, served


async def _facts(triton: HTTPTriton) -> ServerFacts:
    about, trace, memory = await asyncio.gather(
        _request(triton, "GET", "/v2"),
        _request(triton, "GET", "/v2/trace/setting"),
        _request(triton, "POST", _UNREGISTER_UNKNOWN),
    )
    require_triton(about.status, about.text)
    if about.status != 200 or not isinstance(about.json, dict) or "version" not in about.json:
        raise TritonUnavailableError("The server there is not a Triton.")
    mode = (trace.json or {}).get("trace_mode", "") if trace.status == 200 else ""
    return ServerFacts(str(about.json["version"]), memory.status == 200, str(mode))


async def _model(triton: HTTPTriton, name: str, text: ModelConfig | None, settings: Settings) -> ServedModel:
    path = f"/v2/models/{quote(name, safe='')}"
    config, stats = await asyncio.gather(*(_request(triton, "GET", path + end) for end in ("/config", "/stats")))
    return ServedModel(
        name=name,
        is_dead=await _is_dead(triton, name),
        raw=config.json if config.status == 200 else None,
        settings=settings,
        text=text,
        content_encoding=config.encoding,
        mean_s=_mean_s(stats.json) if stats.status == 200 else 0.0,
    )


async def _is_dead(triton: HTTPTriton, name: str) -> bool:
    """Whether Triton reports that the model's stub process is dead, as 26.01 and newer do."""
    try:
        await triton.ready(name)
    except ModelNotReadyError:
        return True
    return False


async def _request(triton: HTTPTriton, method: str, path: str) -> Reply:
    head, body = await triton.status_request(method, path)
    try:
        json = orjson.loads(body)
    except orjson.JSONDecodeError:
        json = None
    return Reply(head.status, json, dict(head.headers).get(b"content-encoding", b"").decode("latin-1"), bytes(body))


def _mean_s(stats: Any) -> float:
    """Mean seconds of successful requests, from arrival to response."""
    done = [each.get("inference_stats", {}).get("success", {}) for each in stats.get("model_stats", ())]
    count = sum(int(each.get("count", 0)) for each in done)
    return sum(int(each.get("ns", 0)) for each in done) / count / 1e9 if count else 0.0


async def _with_trial(triton: HTTPTriton, model: ServedModel) -> ServedModel:
    config = None if model.raw is None else from_server(model.raw)
    if config is None or config.decoupled:
        return model
    inputs = {each.name: _zeros(each, is_batched=config.is_batched) for each in config.inputs if not each.optional}
    try:
        outputs = await triton.infer(model.name, inputs)
    except (SuspectedDeathError, ModelNotReadyError):  # the request has no text that the model could repeat in an error
        return replace(model, is_dead=True)
    except FastAPITritonError as error:
        trial = Trial(rejection=error.detail)
    else:
        trial = Trial(tuple(Output(name, each.datatype.wire, tuple(each.shape)) for name, each in outputs.items()))
    return replace(model, trial=trial)


def _zeros(tensor: TensorConfig, *, is_batched: bool) -> Tensor:
    """Zeros or empty texts, in the smallest shape."""
    shape = ((1,) if is_batched else ()) + tuple(1 if dim == -1 else dim for dim in tensor.dims)
    if tensor.datatype.kind == "bytes":
        return Tensor(tensor.datatype, np.full(shape, b"", dtype=np.object_))
    return Tensor(tensor.datatype, np.zeros(shape, tensor.datatype.numpy))
