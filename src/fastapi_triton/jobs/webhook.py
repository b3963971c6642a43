# SPDX-License-Identifier: Apache-2.0
"""Tells a caller's own server that a job is over: signed (https://www.standardwebhooks.com), and never sent to an
address that only this machine's network can reach."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import socket
import time

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from fastapi_triton.errors import InvalidRequestError

logger = logging.getLogger(__name__)

HEADER = "Webhook-URL"
_MAX_CHARACTERS = 2000
# How long a receiver may take, all in all.
_TIMEOUT_S = 15.0
_SECRET_PREFIX = "whsec_"  # noqa: S105  # begins a secret, and is none


class NotDeliveredError(Exception):
    """The receiver did not take it; the same again may work."""


class Webhooks:
    """Signs with one secret. `anywhere` allows http and private addresses too, as tests need them."""

    def __init__(self, secret: str, *, anywhere: bool = False) -> None:
        self._secret = _decoded(secret)
        self._anywhere = anywhere

    def checked(self, url: str) -> str:
        """The URL that a caller gave, if there is nothing wrong with it that can be seen now.

        Raises:
            InvalidRequestError: there is.
        """
        if not self._secret:
            raise _refused("Webhooks are switched off here. Poll the job, or follow its events.", "webhooks_off")
        try:
            parsed = URL(url)
        except ValueError:
            parsed = URL()
        schemes = ("https", "http") if self._anywhere else ("https",)
        has_credentials = bool(parsed.user or parsed.password)
        if len(url) > _MAX_CHARACTERS or parsed.scheme not in schemes or not parsed.host or has_credentials:
            raise _refused(
                f"The {HEADER} must be an https URL of at most {_MAX_CHARACTERS} characters, without credentials.",
                "invalid_webhook_url",
            )
        if not self._anywhere and _is_literal(parsed.host) and not _is_public(parsed.host):
            raise _refused(f"The {HEADER} must not lead to a private address.", "invalid_webhook_url")
        return url

    async def send(self, job_id: str, url: str, status: str) -> None:
        """Tell of a job that is over. The event's id is the job's, so who gets it twice can see that.

        Raises:
            NotDeliveredError: it was not taken.
        """
        body = orjson.dumps({"type": f"job.{status}", "timestamp": _now(), "data": {"id": job_id, "status": status}})
        # A connection of its own, to an address that was looked at: what the name says a moment later does not matter.
        connector = aiohttp.TCPConnector(resolver=_Resolver(anywhere=self._anywhere), force_close=True)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            self.checked(url)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.post(url, data=body, headers=self._headers(job_id, body), allow_redirects=False) as answer,
            ):
                if not 200 <= answer.status < 300:
                    raise NotDeliveredError(f"it answered {answer.status}")
        except aiohttp.InvalidURL:  # its text holds the URL, whose path or query may be a secret
            raise NotDeliveredError("its URL cannot be used") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotDeliveredError(f"it cannot be reached: {error!r}") from None
        except InvalidRequestError as error:  # the settings have changed since
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


class _Resolver(AbstractResolver):
    """Gives public addresses only."""

    def __init__(self, *, anywhere: bool) -> None:
        self._anywhere = anywhere

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        allowed = [each for each in found if self._anywhere or _is_public(str(each[4][0]))]
        if not allowed:
            raise OSError(f"{host} has no public address")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in allowed
        ]

    async def close(self) -> None:
        return None


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_public(address: str) -> bool:
    """Whether anybody on the internet could reach it: not this machine, its networks, or one within another."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        within = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if within is None and parsed in _NAT64:
            within = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if within is not None:
            return _is_public(str(within))
    return parsed.is_global and not parsed.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _decoded(secret: str) -> bytes:
    """The bytes of a secret as Standard Webhooks writes it; of another text its own bytes."""
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(
            f"the secret for webhooks begins with {_SECRET_PREFIX}, but what follows is no base64"
        ) from None


def _refused(detail: str, code: str) -> InvalidRequestError:
    return InvalidRequestError(detail, code=code)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
