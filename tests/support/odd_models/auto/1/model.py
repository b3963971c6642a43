# SPDX-License-Identifier: Apache-2.0
"""Declares its own inputs and outputs (auto-complete)."""

from typing import Any


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [2]})
        config.set_max_batch_size(4)
        return config

    def execute(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError
