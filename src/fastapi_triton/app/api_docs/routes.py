# SPDX-License-Identifier: Apache-2.0
"""The docs page and its files."""

import hashlib
import html
import json
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.docs import swagger_ui_default_parameters
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core import paths
from fastapi_triton.core.errors import NotFoundError

_PACKAGE = "fastapi_offline"
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{files}/favicon.png">
<link rel="stylesheet" href="{files}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script type="application/json" id="settings">{settings}</script>
<script src="{files}/swagger-ui-bundle.js"></script>
<script src="{files}/start.js"></script>
</body>
</html>
"""
# Swagger UI writes style attributes, has its icons as data URLs, and shows a picture in a response as a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src {origins}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOREVER = "public, max-age=31536000, immutable"


def add_to(app: FastAPI) -> None:
    """Add `docs_url` and its files, if the app has docs. Call it before FastAPI adds its own page, which loads the
    files from another host."""
    if not app.docs_url or not app.openapi_url:
        return

    # Both run in a worker thread, since the first request reads the files.
    def page(request: Request) -> Response:
        policy = _POLICY.format(origins=" ".join(["'self'", *_other_origins(app)]))
        content = _render(app, request.scope.get("root_path", "").rstrip("/"))
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": policy})

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _MEDIA_TYPES or request.path_params["version"] != _version():
            raise NotFoundError("The docs page has no such file in this version. Load the page again.")
        return Response(_files()[name], media_type=_MEDIA_TYPES[name], headers={"Cache-Control": _FOREVER})

    app.add_route(app.docs_url, page, include_in_schema=False)
    app.add_route(f"{paths.SWAGGER_UI}/{{version}}/{{name}}", file, include_in_schema=False)


def _render(app: FastAPI, root_path: str) -> str:
    parameters = {
        **swagger_ui_default_parameters,
        **(app.swagger_ui_parameters or {}),
        "url": f"{root_path}{app.openapi_url}",
        "oauth2RedirectUrl": f"{root_path}{app.swagger_ui_oauth2_redirect_url}",
    }
    settings = json.dumps({"parameters": parameters, "oauth": app.swagger_ui_init_oauth})
    return _PAGE.format(
        title=html.escape(app.title),
        files=f"{html.escape(root_path)}{paths.SWAGGER_UI}/{_version()}",
        settings=settings.replace("<", "\\u003c"),  # no text can close the script element
    )


def _other_origins(app: FastAPI) -> list[str]:
    """The origins of the app's `servers`, to which the page sends requests too."""
    urls = [urlsplit(each["url"]) for each in app.servers]
    return sorted({f"{url.scheme}://{url.netloc}" for url in urls if url.netloc})


@cache
def _files() -> dict[str, bytes]:
    swagger_ui = resources.files(_PACKAGE) / "static"
    ours = Path(__file__).parent
    return {name: ((ours if name == "start.js" else swagger_ui) / name).read_bytes() for name in _MEDIA_TYPES}


@cache
def _version() -> str:
    """A hash of all files. It is in their URLs, so a changed file has a new URL, and browsers may keep each forever."""
    return hashlib.sha256(b"".join(_files().values())).hexdigest()[:12]
