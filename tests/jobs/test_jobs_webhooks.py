# SPDX-License-Identifier: Apache-2.0
"""Webhooks: signatures, retries, and the addresses to which none is sent."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from fastapi_triton import Settings
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.jobs import dbos_queue
from fastapi_triton.jobs.webhooks import NotDeliveredError, Webhooks

KEY = b"a secret of some bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """A client's server: rejects the first webhook and accepts the second."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses = [500, 200]
        self.received: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def serve(self, request: web.Request) -> web.Response:
        await self.received.put((dict(request.headers), await request.read()))
        status = self.statuses.pop(0)
        return web.Response(status=status, headers={"Location": self.url} if status == 302 else {})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://localhost:{port}/hook"
    yield receiver
    await runner.cleanup()


async def test_a_signed_webhook_is_sent_until_it_is_accepted(
    running: Any, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbos_queue, "_WEBHOOK_FIRST_S", 0.01)
    monkeypatch.setattr(dbos_queue, "_WEBHOOK_DELAY_S", 0.0)
    update = {"jobs_webhook_secret": SECRET, "jobs_webhooks_anywhere": True}
    async with running(settings.model_copy(update=update)) as client:
        job = await client.accepted({"Webhook-URL": receiver.url})
        (first, body), (second, again) = [await receiver.received.get() for _ in range(2)]
        assert body == again or json.loads(body)["data"] == json.loads(again)["data"]
        event = json.loads(again)
        assert (event["type"], event["data"]) == (
            "job.completed",
            {"id": job.removeprefix("/jobs/"), "status": "completed"},
        )
        assert first["webhook-id"] == second["webhook-id"] == event["data"]["id"]
        signed = f"{second['webhook-id']}.{second['webhook-timestamp']}.".encode() + again
        expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert second["webhook-signature"] == f"v1,{expected}"
        assert len((await client.get("/jobs")).json()["jobs"]) == 1


async def test_webhooks_are_off_without_a_secret(client: Any) -> None:
    response = await client.post({"Webhook-URL": "https://example.org/"})
    assert (response.status_code, response.json()["code"]) == (422, "webhooks_off")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https://user@example.org/",
        "https:///nowhere",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://224.0.0.1/",
        "https://example.org/" + "x" * 2000,
        "nonsense",
    ],
)
def test_private_and_invalid_webhook_urls_are_rejected(url: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        Webhooks(SECRET).checked(url)
    assert raised.value.code == "invalid_webhook_url"


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses = [302, 200]
    with pytest.raises(NotDeliveredError, match="302"):
        await Webhooks(SECRET, anywhere=True).send("id", receiver.url, "completed")
    assert receiver.received.qsize() == 1
