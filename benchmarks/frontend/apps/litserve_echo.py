# SPDX-License-Identifier: Apache-2.0
"""The same echo served by LitServe, which runs models in its own worker processes, without a Triton.

It runs in its own environment, so it imports nothing of this project.
"""

import sys
from typing import Any

import litserve


class Echo(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        del device

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["image"])

    def predict(self, image: str) -> str:
        return image

    def encode_response(self, image: str) -> dict[str, str]:
        return {"generated_image": image}


if __name__ == "__main__":
    server = litserve.LitServer(Echo(api_path="/scribble"), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
