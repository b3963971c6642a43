# SPDX-License-Identifier: Apache-2.0
"""The ways to the model that are compared. Several may go through one server."""

from dataclasses import dataclass

V2_PATH = "/v2/models/scribble_echo/infer"
SCRIBBLE_PATH = "/scribble"


@dataclass(frozen=True, slots=True)
class Way:
    """One of them: who answers, where, in which protocol, and a line for the reader."""

    name: str
    server: str | None  # None: Triton itself
    is_v2: bool
    about: str
    is_json: bool = False  # of `/v2`: the tensors in JSON instead of binary

    @property
    def path(self) -> str:
        return V2_PATH if self.is_v2 else SCRIBBLE_PATH


DIRECT, NGINX, NAIVE, OURS, OURS_V2 = "direct", "nginx", "naive", "fastapi-triton", "fastapi-triton /v2"
WAYS = (
    Way(DIRECT, None, True, "Triton itself, binary tensors"),
    Way(NGINX, "nginx", True, "nginx passes binary tensors through, bodies buffered in memory; checks nothing"),
    Way(OURS, "ours", False, "the scribble endpoint of `main.py`, complete, by `fastapi-triton serve`"),
    Way(OURS_V2, "ours", True, "`/v2` through the same process"),
    Way(NAIVE, "naive", False, "FastAPI, `tritonclient.http` in an `async def`; checks types only"),
    Way("http.aio", "aio", False, "FastAPI, `tritonclient.http.aio`; checks types only; Triton compresses its answers"),
    Way("http.aio, no gzip", "aio-without-gzip", False, "the same with `Accept-Encoding: identity`"),
    Way("LitServe", "litserve", False, "runs the echo in a worker of its own: no Triton behind it; checks nothing"),
)
# `/v2` against an earlier commit of it, with binary tensors and with JSON; measured where they are named.
BEFORE = "before"
CHANGES = (
    Way("fastapi-triton /v2, JSON", "ours", True, "`/v2` with the tensors in JSON", is_json=True),
    Way("before /v2", BEFORE, True, "`/v2` of the commit that `--before` names"),
    Way("before /v2, JSON", BEFORE, True, "the same with the tensors in JSON", is_json=True),
)
PAIRS = ((OURS_V2, "before /v2"), ("fastapi-triton /v2, JSON", "before /v2, JSON"))
# What our own way is made of, from the bare exchange up; measured where they are named.
LAYERS = (
    Way("without a framework", "without-framework", False, "uvloop, httptools, pydantic, one exchange with Triton"),
    *(
        Way(f"layer {number}", f"layers-{number}", False, about)
        for number, about in enumerate(
            (
                "the same as a bare ASGI app, by our HTTP protocol",
                "and the picture checked, an unknown field refused",
                "and the answer held against its model",
                "and tensors made and read by the contract",
                "and places, deadlines, the form of the answer: the endpoint itself",
            ),
            start=1,
        )
    ),
)
