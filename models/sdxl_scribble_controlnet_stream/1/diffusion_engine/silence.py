# SPDX-License-Identifier: Apache-2.0
"""The listener of requests that nobody waits for."""

from diffusion_engine.generation import GeneratedPicture
from diffusion_engine.request import RequestError


class Silence:
    """Hears everything, says nothing."""

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        del step, num_steps, preview

    def completed(self, picture: GeneratedPicture) -> None:
        del picture

    def failed(self, error: RequestError) -> None:
        del error
