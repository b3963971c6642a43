# SPDX-License-Identifier: Apache-2.0
"""Finds the FastAPI app that the command line names."""

import importlib
import sys
from pathlib import Path

from fastapi import FastAPI

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.core import bundle


class AppNotFoundError(Exception):
    """The app does not exist; the message is for the user."""


def load_app(name: str | None, *, is_bundled_repository: bool) -> FastAPI:
    """Import the app `module:attribute`; without a name `main:app`, if there is a `main.py`.

    Without a `main.py`, the bundled model repository is served by the bundled app, and any other Triton by an app
    without declared endpoints.

    Raises:
        AppNotFoundError: the module or the attribute does not exist.
    """
    if name is None and not Path("main.py").is_file():
        if not is_bundled_repository:
            return TritonFrontend()
        sys.path.insert(0, str(bundle.app_folder()))
        return load_app("main:app", is_bundled_repository=True)
    module_name, _, attribute = (name or "main:app").partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise AppNotFoundError(f"There is no module {module_name} in {Path.cwd()}.") from None
    found = getattr(module, attribute or "app", None)
    if not isinstance(found, FastAPI):
        raise AppNotFoundError(f"{module_name} has no FastAPI app named {attribute or 'app'}.")
    return found
