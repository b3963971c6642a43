# SPDX-License-Identifier: Apache-2.0
"""A listener that waits for one picture."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusion_engine.errors import RequestError
    from diffusion_engine.request_state import GeneratedPicture


class Listener:
    def __init__(self) -> None:
        self.previews: list[bytes] = []
        self._picture: GeneratedPicture | None = None
        self._error: RequestError | None = None
        self._is_done = threading.Event()

    def moved(self, position: object) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        if preview is not None:
            self.previews.append(preview)

    def completed(self, picture: "GeneratedPicture") -> None:
        self._picture = picture
        self._is_done.set()

    def failed(self, error: "RequestError") -> None:
        self._error = error
        self._is_done.set()

    def picture(self) -> "GeneratedPicture":
        self._is_done.wait()
        if self._picture is None:
            raise self._error or RuntimeError("neither a picture nor an error")
        return self._picture
