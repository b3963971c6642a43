# SPDX-License-Identifier: Apache-2.0
"""A model that does not load."""


class TritonPythonModel:
    def initialize(self, _: dict[str, str]) -> None:
        raise ValueError("no weights here")

    def execute(self, requests: list[object]) -> list[object]:
        return []
