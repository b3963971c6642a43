# SPDX-License-Identifier: Apache-2.0
"""Sends a signed webhook (https://www.standardwebhooks.com) when a job has finished, to public addresses only."""

import base64
import binascii
import hashlib
import hmac
import logging
import time

import aiohttp
import orjson

from fastapi_triton.core import public_urls
from fastapi_triton.core.errors import InvalidRequestError

logger = logging.getLogger(__name__)

HEADER = "Webhook-URL"
# The timeout for the whole request.
_TIMEOUT_S = 15.0
_SECRET_PREFIX = "whsec_"  # noqa: S105  # the prefix of a secret, not a secret


class NotDeliveredError(Exception):
    """The webhook was not delivered; a retry may work."""


class Webhooks:
    """Checks URLs and sends signed webhooks. `anywhere` allows http and private addresses, for tests."""

    def __init__(self, secret: str, *, anywhere: bool = False) -> None:
        self._secret = _decoded(secret)
        self._anywhere = anywhere

    def checked(self, url: str) -> str:
        """Check a `Webhook-URL` as far as possible without resolving its host. Returns the URL.

        Raises:
            InvalidRequestError: the URL is not allowed, or webhooks are off.
        """
        if not self._secret:
            raise _error("This server does not send webhooks. Poll the job, or follow its events.", "webhooks_off")
        try:
            public_urls.check(url, anywhere=self._anywhere)
        except ValueError as error:
            raise _error(f"The {HEADER} {error}.", "invalid_webhook_url") from None
        return url

    async def send(self, job_id: str, url: str, status: str) -> None:
        """Send the webhook of a finished job. Its id is the job's id, so that receivers can recognise duplicates.

        Raises:
            NotDeliveredError: the receiver did not accept it.
        """
        body = orjson.dumps({"type": f"job.{status}", "timestamp": _now(), "data": {"id": job_id, "status": status}})
        try:
            self.checked(url)
            async with (
                public_urls.session(_TIMEOUT_S, anywhere=self._anywhere) as session,
                session.post(url, data=body, headers=self._headers(job_id, body), allow_redirects=False) as response,
            ):
                if not 200 <= response.status < 300:
                    raise NotDeliveredError(f"the receiver returned {response.status}")
        except aiohttp.InvalidURL:  # its text has the URL, and a path or query may be a secret
            raise NotDeliveredError("the URL is not valid") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotDeliveredError(f"the receiver cannot be reached: {str(error) or type(error).__name__}") from None
        except InvalidRequestError as error:  # the settings have changed meanwhile
            logger.warning("job %s: its webhook is not sent: %s", job_id, error.detail)

    def _headers(self, job_id: str, body: bytes) -> dict[str, str]:
        moment = str(int(time.time()))
        signed = f"{job_id}.{moment}.".encode() + body
        signature = base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest()).decode()
        return {
            "Content-Type": "application/json",
            "webhook-id": job_id,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{signature}",
        }


def _decoded(secret: str) -> bytes:
    """The bytes of a secret in Standard Webhooks' format (`whsec_` and base64), or of any other text."""
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(
            f"jobs_webhook_secret begins with {_SECRET_PREFIX}, but the rest is not valid base64"
        ) from None


def _error(detail: str, code: str) -> InvalidRequestError:
    return InvalidRequestError(detail, code=code)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
