# SPDX-License-Identifier: Apache-2.0
"""Requests that become jobs: those that prefer not to wait (`Prefer: respond-async`, RFC 7240), which get 202 and the
job's address, and those with an `Idempotency-Key`, whose job is waited for."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from functools import partial

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core.context import current_caller
from fastapi_triton.core.disconnect import cancel_on_disconnect
from fastapi_triton.core.errors import FieldProblem, InvalidRequestError
from fastapi_triton.endpoints import content_negotiation
from fastapi_triton.jobs import webhooks as webhooks
from fastapi_triton.jobs.event_stream import events_response, until_over
from fastapi_triton.jobs.interfaces import JobEndpoint, JobRequest
from fastapi_triton.jobs.job import Job
from fastapi_triton.jobs.manager import Jobs
from fastapi_triton.jobs.results import reply
from fastapi_triton.jobs.schemas import JobView, url_of

PREFERENCE = "respond-async"
KEY_HEADER = "Idempotency-Key"
_KEY_NAME = KEY_HEADER.lower().encode()
_NAMES = frozenset((b"prefer", _KEY_NAME))
# What a key may be, a string of structured headers (RFC 8941) or the same without its quotes.
_KEY = re.compile(r'"([\x20\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,255})')


class Submissions:
    """Makes jobs of the requests to one endpoint that prefer an asynchronous response, or must not be run twice."""

    def __init__(self, jobs: Jobs, endpoint: JobEndpoint) -> None:
        self._jobs = jobs
        self._endpoint = endpoint

    def wants(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether this is one of them."""
        # A loop, since every request comes by here, and a generator takes three times as long.
        for name, value in headers:  # noqa: SIM110
            if name in _NAMES and (name == _KEY_NAME or _is_later(value)):
                return True
        return False

    async def submit(self, request: Request) -> Response:
        """Read the request as the endpoint would, and store it; then answer with the job's address, or wait for it."""
        submitted = await self._endpoint.read(request)
        job = await self._job(submitted, request.headers)
        if any(name == b"prefer" and _is_later(value) for name, value in request.scope["headers"]):
            return Response(
                JobView.of(job, request).model_dump_json(),
                202,
                {"Location": url_of(job, request), "Preference-Applied": PREFERENCE, "Cache-Control": "no-store"},
                content_negotiation.JSON,
            )
        if submitted.media_type == content_negotiation.EVENTS:
            return events_response(self._jobs, job)
        job = await cancel_on_disconnect(request.receive, until_over(self._jobs, job))
        return reply(job, await self._jobs.result(job.id), self._endpoint, request.headers.get("accept"))

    async def _job(self, submitted: JobRequest, headers: Headers) -> Job:
        caller = current_caller.get().name
        key = _key(headers.get(KEY_HEADER))
        webhook = headers.get(webhooks.HEADER)
        fingerprint = _fingerprint(submitted)
        job = await self._jobs.accept(
            submitted.stored,
            path=submitted.path,
            caller=caller,
            fingerprint=fingerprint,
            job_id=partial(self._jobs.keyed_id, caller, key) if key else _new_id,
            webhook=self._jobs.webhooks.checked(webhook) if webhook is not None else "",
        )
        if job.fingerprint != fingerprint:
            detail = f"Another request was sent with this {KEY_HEADER}. Give each request a key of its own."
            raise InvalidRequestError(detail, code="idempotency_key_reused")
        return job


def _is_later(value: bytes) -> bool:
    """Whether a `Prefer` header says that the answer may come later."""
    return PREFERENCE in [each.partition(";")[0].strip().lower() for each in value.decode("latin-1").split(",")]


def _new_id() -> str:
    return secrets.token_hex(16)


def _key(value: str | None) -> str | None:
    """The caller's idempotency key, if it has sent one.

    Raises:
        InvalidRequestError: it is none.
    """
    if value is None:
        return None
    found = _KEY.fullmatch(value.strip())
    if found is None:
        detail = f"The {KEY_HEADER} must have from 1 to 255 printable ASCII characters, a UUID for example."
        problem = FieldProblem("#", "invalid_idempotency_key", detail)
        raise InvalidRequestError(detail, code="invalid_idempotency_key", problems=[problem])
    return found[1] or found[2]


def _fingerprint(submitted: JobRequest) -> str:
    """The same for the same request, however it was written."""
    whole = [submitted.path, submitted.values]
    try:
        data = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        data = b"null"
    if b"null" in data:  # orjson also writes NaN and the infinities as null, and they differ
        data = json.dumps(whole, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()
