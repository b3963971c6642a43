# SPDX-License-Identifier: Apache-2.0
"""A listener that records events, and an engine that the test drives step by step."""

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy.typing as npt
from diffusion_engine.decoding import Decoding, decode_here
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import GeneratedPicture, RequestState
from drawings import pixels_of, row

PATIENCE_S = 60.0

T = TypeVar("T")


class Recorder:
    """Records the events of one request in order."""

    def __init__(self) -> None:
        self.progress_events: list[tuple[int, int, bytes | None]] = []
        self.finals: list[GeneratedPicture | RequestError] = []
        self._has_ended = threading.Event()

    def moved(self, position: object) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        assert not self.finals
        self.progress_events.append((step, num_steps, preview))

    def completed(self, picture: GeneratedPicture) -> None:
        self.finals.append(picture)
        self._has_ended.set()

    def failed(self, error: RequestError) -> None:
        self.finals.append(error)
        self._has_ended.set()

    @property
    def steps(self) -> list[int]:
        return [step for step, _, _ in self.progress_events]

    @property
    def previews(self) -> dict[int, bytes]:
        return {step: preview for step, _, preview in self.progress_events if preview is not None}

    def final(self) -> GeneratedPicture | RequestError:
        """Wait for the last event: a picture or an error. Tests check `finals` for a second one."""
        assert self._has_ended.wait(PATIENCE_S), "the request did not end"
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
class Submitted:
    """A request in an engine, and its recorded events."""

    state: RequestState
    recorder: Recorder

    def picture(self) -> GeneratedPicture:
        return self.recorder.picture()

    def pixels(self) -> npt.NDArray[Any]:
        content = self.picture().content
        return pixels_of(base64.b64decode(content) if self.state.is_base64 else content)

    def error(self) -> RequestError:
        return self.recorder.error()


def submit(engine: Engine, recorder: Recorder | None = None, *, preview_every: int = 0, **values: Any) -> Submitted:
    """Submit a request, with values by tensor name."""
    recorder = recorder or Recorder()
    request = parse_request(row(**values), engine.capabilities)
    return Submitted(engine.submit(request, recorder, preview_every=preview_every), recorder)


class DecoderInProcess:
    """Decodes like a `PictureDecoder`, without a process: starting one takes longer than most tests."""

    is_running = True

    def decode(self, decoding: Decoding[T], content: bytes, structure: Structure, *, check: Callable[[], None]) -> T:
        check()
        return decode_here(decoding, content, structure)

    def stop(self) -> None:
        pass


class Driver:
    """An engine without its thread and its decoder processes: `join` submits a request, `step` runs one step."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        for worker in engine._picture_decoders._workers:
            worker.decoder = DecoderInProcess()  # type: ignore[assignment]
        self.passes: list[list[RequestState]] = []
        self._predict: Callable[..., Any] = engine.denoiser.predict
        engine.denoiser.predict = self._noted  # type: ignore[method-assign]
        engine.output_processor.start()

    def join(self, recorder: Recorder | None = None, *, preview_every: int = 0, **values: Any) -> Submitted:
        joined = submit(self.engine, recorder, preview_every=preview_every, **values)
        self.engine._add_arrivals()  # waits until its scribble is read
        return joined

    def step(self) -> bool:
        return self.engine.step()

    def finish(self) -> None:
        """Run steps until all requests have ended."""
        while self.engine.step():
            pass

    def stop(self) -> None:
        self.engine._picture_decoders.stop()
        self.engine.output_processor.stop()

    def _noted(self, states: list[RequestState]) -> Any:
        self.passes.append(list(states))
        return self._predict(states)
