# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the engine, whose responses the test sets, for tests of the public model."""

import json
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from triton_backend import Response, Tensor

PATIENCE_S = 60.0

Row = dict[str, Any]
Respond = Callable[[Row], list[Response]]


def event(name: str, **outputs: Any) -> Response:
    datatypes = {"seed": np.int64, "step": np.int32, "num_steps": np.int32}
    values = {"event": name.encode(), **outputs}
    return Response(
        [Tensor(key, np.array([value], dtype=datatypes.get(key, np.object_))) for key, value in values.items()]
    )


def painted(row: Row) -> list[Response]:
    """The events of a finished request, like the engine's, but without a real picture."""
    seed = row["seed"][0]
    info = json.dumps({"prompt": row["prompt"][0].decode(), "inputs": sorted(row)}).encode()
    return [
        event("queued"),
        event("completed", generated_image=b"made of " + row["image"][0], seed=seed, info=info),
    ]


def failed(code: str, triton_code: str = "INVALID_ARG") -> list[Response]:
    body = {"code": code, "detail": f"because of {code}", "field": "image", "triton_code": triton_code}
    return [event("queued"), event("failed", info=json.dumps(body).encode())]


class Engine:
    """The stream model, as the public model calls it. `respond` makes a row's responses; rows wait for `gate`."""

    def __init__(self) -> None:
        self.respond: Respond = painted
        self.gate = threading.Event()
        self.gate.set()
        self.num_inside = 0
        self.changed = threading.Condition()
        self.calls: list[Any] = []
        self.iterators: list[Callable[[], Any]] = []

    def request(
        self, *, model_name: str, inputs: list[Tensor], requested_output_names: list[str], parameters: dict[str, Any]
    ) -> Any:
        assert parameters == {"terse": True}, "more than two responses to a row can deadlock Triton"
        engine, row = self, {tensor.name(): tensor.as_numpy() for tensor in inputs}
        self.calls.append((model_name, requested_output_names))

        class Running:
            def exec(self, *, decoupled: bool) -> Iterator[Response]:
                assert decoupled
                responses = engine.serve(row)
                iterator = (each for each in responses)
                engine.iterators.append(weakref.ref(iterator))
                return iterator

        return Running()

    def serve(self, row: Row) -> list[Response]:
        with self.changed:
            self.num_inside += 1
            self.changed.notify_all()
        assert self.gate.wait(PATIENCE_S)
        with self.changed:
            self.num_inside -= 1
        return self.respond(row)

    def wait_until_inside(self, num_rows: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.num_inside == num_rows, PATIENCE_S)
