# SPDX-License-Identifier: Apache-2.0
"""A listener that keeps what it is told, and an engine whose steps a test makes itself."""

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import GeneratedPicture, RequestState
from drawings import pixels_of, row

PATIENCE_S = 60.0


class Recorder:
    """Keeps everything in order."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, bytes | None]] = []
        self.finals: list[GeneratedPicture | RequestError] = []
        self._has_ended = threading.Event()

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        assert not self.finals
        self.told.append((step, num_steps, preview))

    def completed(self, picture: GeneratedPicture) -> None:
        self.finals.append(picture)
        self._has_ended.set()

    def failed(self, error: RequestError) -> None:
        self.finals.append(error)
        self._has_ended.set()

    @property
    def steps(self) -> list[int]:
        return [step for step, _, _ in self.told]

    @property
    def previews(self) -> dict[int, bytes]:
        return {step: preview for step, _, preview in self.told if preview is not None}

    def final(self) -> GeneratedPicture | RequestError:
        """The end of it, once it is told; that it was told only once is the caller's to check when all is over."""
        assert self._has_ended.wait(PATIENCE_S), "the listener was told no end"
        return self.finals[0]

    def picture(self) -> GeneratedPicture:
        final = self.final()
        if isinstance(final, RequestError):
            raise final
        return final

    def error(self) -> RequestError:
        final = self.final()
        assert isinstance(final, RequestError)
        return final


@dataclass(frozen=True, slots=True)
class Visit:
    """A request inside an engine, and what its listener was told."""

    state: RequestState
    recorder: Recorder

    def picture(self) -> GeneratedPicture:
        return self.recorder.picture()

    def pixels(self) -> npt.NDArray[Any]:
        content = self.picture().content
        return pixels_of(base64.b64decode(content) if self.state.is_base64 else content)

    def error(self) -> RequestError:
        return self.recorder.error()


def visit(engine: Engine, recorder: Recorder | None = None, *, preview_every: int = 0, **values: Any) -> Visit:
    """Submit a request by its tensors' names."""
    recorder = recorder or Recorder()
    request = parse_request(row(**values), engine.capabilities)
    return Visit(engine.submit(request, recorder, preview_every=preview_every), recorder)


class Driver:
    """An engine without its thread: `join` lets a request in, `step` makes one pass."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.passes: list[list[RequestState]] = []
        self._predict: Callable[..., Any] = engine.denoiser.predict
        engine.denoiser.predict = self._noted  # type: ignore[method-assign]
        engine.output_processor.start()

    def join(self, recorder: Recorder | None = None, *, preview_every: int = 0, **values: Any) -> Visit:
        joined = visit(self.engine, recorder, preview_every=preview_every, **values)
        self.engine._add_arrivals()  # waits until its scribble is read
        return joined

    def step(self) -> bool:
        return self.engine.step()

    def finish(self) -> None:
        """Step until nobody is left."""
        while self.engine.step():
            pass

    def stop(self) -> None:
        self.engine._picture_decoders.stop()
        self.engine.output_processor.stop()

    def _noted(self, states: list[RequestState]) -> Any:
        self.passes.append(list(states))
        return self._predict(states)
