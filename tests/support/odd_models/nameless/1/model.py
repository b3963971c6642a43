# SPDX-License-Identifier: Apache-2.0
"""Only its config is used."""

from typing import Any


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError
