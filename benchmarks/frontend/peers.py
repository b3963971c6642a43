# SPDX-License-Identifier: Apache-2.0
"""The compared peers. Several may use the same server."""

from dataclasses import dataclass

V2_PATH = "/v2/models/scribble_echo/infer"
SCRIBBLE_PATH = "/scribble"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer: its server, protocol and description."""

    name: str
    server: str | None  # None: Triton itself
    is_v2: bool
    about: str
    is_json: bool = False  # for `/v2`: tensors in JSON instead of binary

    @property
    def path(self) -> str:
        return V2_PATH if self.is_v2 else SCRIBBLE_PATH


DIRECT, NGINX, NAIVE, OURS, OURS_V2 = "direct", "nginx", "naive", "fastapi-triton", "fastapi-triton /v2"
PEERS = (
    Peer(DIRECT, None, True, "Triton itself, binary tensors"),
    Peer(NGINX, "nginx", True, "nginx as a proxy of binary tensors, with bodies buffered in memory; checks nothing"),
    Peer(OURS, "ours", False, "the complete scribble endpoint of `main.py`, run by `fastapi-triton serve`"),
    Peer(OURS_V2, "ours", True, "`/v2` through the same process"),
    Peer(NAIVE, "naive", False, "FastAPI, `tritonclient.http` in an `async def`; checks types only"),
    Peer(
        "http.aio", "aio", False, "FastAPI, `tritonclient.http.aio`; checks types only; Triton compresses its responses"
    ),
    Peer("http.aio, no gzip", "aio-without-gzip", False, "the same with `Accept-Encoding: identity`"),
    Peer("LitServe", "litserve", False, "runs the echo in its own worker, without a Triton; checks nothing"),
)
# Comparison with an earlier commit, only if `--peers` names them: the scribble endpoint, and `/v2` with binary tensors
# and with JSON.
BEFORE = "before"
CHANGES = (
    Peer("before", BEFORE, False, "the scribble endpoint of the commit that `--before` names"),
    Peer("fastapi-triton /v2, JSON", "ours", True, "`/v2` with the tensors in JSON", is_json=True),
    Peer("before /v2", BEFORE, True, "`/v2` of the commit that `--before` names"),
    Peer("before /v2, JSON", BEFORE, True, "the same with the tensors in JSON", is_json=True),
)
PAIRS = ((OURS, "before"), (OURS_V2, "before /v2"), ("fastapi-triton /v2, JSON", "before /v2, JSON"))
# The layers of our endpoint, from the bare exchange up. They are measured only if `--peers` names them.
LAYERS = (
    Peer("without a framework", "without-framework", False, "uvloop, httptools, pydantic, one exchange with Triton"),
    *(
        Peer(f"layer {number}", f"layers-{number}", False, about)
        for number, about in enumerate(
            (
                "the same as a bare ASGI app, by our HTTP protocol",
                "checks the picture and rejects unknown fields, too",
                "validates the response with its model, too",
                "converts tensors according to the contract, too",
                "slots, deadlines and content negotiation, too: the endpoint itself",
            ),
            start=1,
        )
    ),
)
