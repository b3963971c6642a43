# SPDX-License-Identifier: Apache-2.0
"""Serves the page and its files, with the endpoint of the app that the page draws with."""

import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core import paths
from fastapi_triton.core.errors import FastAPITritonError, NotFoundError
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.pictures.playground import examples
from fastapi_triton.pictures.text_to_image import sketch_field

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
# Nothing from another host, nothing inline; pictures also from what the page has made itself.
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FOREVER = "public, max-age=31536000, immutable"


def router(endpoints: Sequence[InferEndpoint]) -> APIRouter:
    """`/` and the page's files; `endpoints` may still grow. Where none can draw, `/` leads to the API's own docs."""
    routes = APIRouter(include_in_schema=False)

    # Both run in a worker thread, since the first request reads the files and makes the examples.
    @routes.api_route("/", methods=["GET", "HEAD"])
    def page(request: Request) -> Response:
        endpoint = next(filter(None, map(_drawing, endpoints)), None)
        if endpoint is None:
            return to_docs(request)
        app = cast(FastAPI, request.app)
        return _revalidated(request, _render(app.title, app.docs_url, endpoint))

    @routes.get(f"{paths.PLAYGROUND}/model")
    async def model() -> Response:
        """The model's description, or why there is none yet; always 200, since waiting is not an error."""
        endpoint = next(filter(_drawing, endpoints), None)
        if endpoint is None:
            raise NotFoundError("No endpoint of this app can draw.")
        return JSONResponse(await _state(endpoint), headers={"Cache-Control": "no-store"})

    @routes.api_route(f"{paths.PLAYGROUND}/{{version}}/{{name}}", methods=["GET", "HEAD"])
    def file(version: str, name: str) -> Response:
        content = _files().get(name)
        if content is None or version != _version():
            raise NotFoundError("The page has no such file, or no longer. Load the page again.")
        media_type = _MEDIA_TYPES[Path(name).suffix]
        return Response(content, media_type=media_type, headers={**_SECURITY, "Cache-Control": _FOREVER})

    return routes


def to_docs(request: Request) -> Response:
    """To the API's own docs, where the app has any."""
    docs_url = cast(FastAPI, request.app).docs_url
    if docs_url is None:
        raise NotFoundError("This app has neither a page nor docs.")
    return RedirectResponse(f"{request.scope.get('root_path', '')}{docs_url}")


def _drawing(endpoint: InferEndpoint) -> dict[str, Any] | None:
    """What the page must know of an endpoint that can draw while the page watches."""
    sketch = sketch_field(endpoint)
    if sketch is None or endpoint.stream_model is None:
        return None
    return {  # paths are relative: the app may stand below a prefix
        "endpoint": endpoint.path.lstrip("/"),
        "image": sketch,
        "picture": endpoint.picture_field,
        "fields": list(endpoint.request_model.model_fields),
    }


async def _state(endpoint: InferEndpoint) -> dict[str, Any]:
    try:
        await endpoint.require_ready()
        return {"ready": True, "description": await endpoint.describe()}
    except NotFoundError:  # it draws, but has nothing to say of itself
        return {"ready": True, "description": {}}
    except FastAPITritonError as error:
        return {"ready": False, "code": error.code, "detail": error.detail}


def _render(title: str, docs_url: str | None, endpoint: dict[str, Any]) -> bytes:
    assets = f"playground/{_version()}"
    known = {**endpoint, "examples": [{**each, "file": f"{assets}/{each['file']}"} for each in examples.listed()]}
    text = (_STATIC / "index.html").read_text(encoding="utf-8")
    for name, value in {
        "title": html.escape(title),
        "assets": assets,
        "docs": html.escape((docs_url or "").lstrip("/")),
        "known": json.dumps(known).replace("<", "\\u003c"),  # no way out of the script element
    }.items():
        text = text.replace("{{" + name + "}}", value)
    return text.encode()


def _revalidated(request: Request, content: bytes) -> Response:
    """The page itself is asked for every time, and sent when it has changed: it names the files of its version."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**_SECURITY, "Cache-Control": "no-cache", "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="text/html", headers=headers)


@cache
def _files() -> dict[str, bytes]:
    """Every file of the page by name, but the page itself."""
    found = {path.name: path.read_bytes() for path in sorted(_STATIC.iterdir()) if path.suffix in _MEDIA_TYPES}
    return found | examples.pictures()


@cache
def _version() -> str:
    """Changes with any file, and so does every address: what is cached forever is never stale."""
    digest = hashlib.sha256()
    for name, content in _files().items():
        digest.update(name.encode() + content)
    return digest.hexdigest()[:12]
