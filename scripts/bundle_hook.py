# SPDX-License-Identifier: Apache-2.0
"""Build hook: the wheel includes the app, the model repository and the examples.

An editable install does not, because it would have stale copies of files in the clone.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLED = {
    "main.py": "fastapi_triton/bundled/main.py",
    "models": "fastapi_triton/bundled/models",
    "demo/examples": "fastapi_triton/bundled/examples",
}


class BundleHook(BuildHookInterface):  # type: ignore[misc]  # builds have hatchling, development does not
    """Named in pyproject.toml; hatchling finds it by its base class."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"].update(BUNDLED)
