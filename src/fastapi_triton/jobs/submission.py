# SPDX-License-Identifier: Apache-2.0
"""Makes jobs of requests with `Prefer: respond-async` (RFC 7240) or an `Idempotency-Key`.

The response to the former is 202 with the job's URL. The response to the latter is the job's result.
"""

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
from fastapi_triton.core.errors import FieldProblem, InvalidRequestError, shown
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
# A key is a string of structured headers (RFC 8941), with or without its quotes.
_KEY = re.compile(r'"([\x20\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,255})')


class Submissions:
    """Makes jobs of requests to one endpoint."""

    def __init__(self, jobs: Jobs, endpoint: JobEndpoint) -> None:
        self._jobs = jobs
        self._endpoint = endpoint

    def wants(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers becomes a job."""
        # A loop, because this runs for every request, and a generator takes three times as long.
        for name, value in headers:  # noqa: SIM110
            if name in _NAMES and (name == _KEY_NAME or _prefers_async(value)):
                return True
        return False

    async def submit(self, request: Request) -> Response:
        """Read and store the request. Returns the job's URL, its events, or its result when it is finished."""
        submitted = await self._endpoint.read(request)
        job = await self._job(submitted, request.headers)
        if any(name == b"prefer" and _prefers_async(value) for name, value in request.scope["headers"]):
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
            detail = f"This {KEY_HEADER} was already used for a different request. Use a new key for each request."
            raise InvalidRequestError(detail, code="idempotency_key_reused")
        return job


def _prefers_async(value: bytes) -> bool:
    """Whether the value of a `Prefer` header contains `respond-async`."""
    return PREFERENCE in [each.partition(";")[0].strip().lower() for each in value.decode("latin-1").split(",")]


def _new_id() -> str:
    return secrets.token_hex(16)


def _key(value: str | None) -> str | None:
    """The idempotency key in a header's value.

    Raises:
        InvalidRequestError: the value is not a valid key.
    """
    if value is None:
        return None
    found = _KEY.fullmatch(value.strip())
    if found is None:
        detail = (
            f'The header {KEY_HEADER} is "{shown(value)}"; it must be 1 to 255 printable ASCII characters, '
            "such as a UUID."
        )
        problem = FieldProblem("#", "invalid_idempotency_key", detail)
        raise InvalidRequestError(detail, code="invalid_idempotency_key", problems=[problem])
    return found[1] or found[2]


def _fingerprint(submitted: JobRequest) -> str:
    """A hash of the request's path and values: equal requests have the same one, however their bodies are written."""
    content = [submitted.path, submitted.values]
    try:
        data = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        data = b"null"
    if b"null" in data:  # orjson also writes NaN and Infinity as null, so different requests would look equal
        data = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()
