# SPDX-License-Identifier: Apache-2.0
"""Serves the page, its files, and the state of the model that it uses."""

import gzip
import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache, lru_cache
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
from fastapi_triton.pictures.text_to_image import scribble_field

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
# Nothing from another host and nothing inline. Pictures may also be `blob:` and `data:` URLs, which the page makes.
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FOREVER = "public, max-age=31536000, immutable"


def router(endpoints: Sequence[InferEndpoint]) -> APIRouter:
    """`/` and the page's files. If no endpoint can draw, `/` redirects to `/docs`. `endpoints` may still grow."""
    routes = APIRouter(include_in_schema=False)

    # `page` and `file` run in a worker thread, because their first request reads the files and makes the examples.
    @routes.api_route("/", methods=["GET", "HEAD"])
    def page(request: Request) -> Response:
        endpoint = next(filter(None, map(_drawing, endpoints)), None)
        if endpoint is None:
            return to_docs(request)
        app = cast(FastAPI, request.app)
        return _revalidated(request, _render(app.title, app.docs_url, endpoint))

    @routes.get(f"{paths.PLAYGROUND}/model")
    async def model() -> Response:
        """The model's description, or why it is not ready yet: always 200, because waiting is not an error."""
        endpoint = next(filter(_drawing, endpoints), None)
        if endpoint is None:
            raise NotFoundError("This app has no endpoint that makes pictures from scribbles.")
        return JSONResponse(await _state(endpoint), headers={"Cache-Control": "no-store"})

    @routes.api_route(f"{paths.PLAYGROUND}/{{version}}/{{name}}", methods=["GET", "HEAD"])
    def file(version: str, name: str, request: Request) -> Response:
        content = _files().get(name)
        if content is None or version != _version():
            raise NotFoundError("The page has no such file in its current version. Reload the page.")
        media_type = _MEDIA_TYPES[Path(name).suffix]
        headers = {**_SECURITY, "Cache-Control": _FOREVER}
        if media_type == _MEDIA_TYPES[".webp"]:  # compressed already
            return Response(content, media_type=media_type, headers=headers)
        return _compressed(request, content, media_type, headers)

    return routes


def to_docs(request: Request) -> Response:
    """A redirect to the API's docs.

    Raises:
        NotFoundError: the app has no docs.
    """
    docs_url = cast(FastAPI, request.app).docs_url
    if docs_url is None:
        raise NotFoundError("This app has no page and no docs.")
    return RedirectResponse(f"{request.scope.get('root_path', '')}{docs_url}")


def _drawing(endpoint: InferEndpoint) -> dict[str, Any] | None:
    """The page's configuration for this endpoint, or None if it cannot make pictures with previews."""
    scribble = scribble_field(endpoint)
    if scribble is None or endpoint.stream_model is None:
        return None
    return {  # a relative path, because the app may be served below a prefix
        "endpoint": endpoint.path.lstrip("/"),
        "image": scribble,
        "picture": endpoint.picture_field,
        "fields": list(endpoint.request_model.model_fields),
    }


async def _state(endpoint: InferEndpoint) -> dict[str, Any]:
    try:
        await endpoint.require_ready()
        return {"ready": True, "description": await endpoint.describe()}
    except NotFoundError:  # the model does not describe itself
        return {"ready": True, "description": {}}
    except FastAPITritonError as error:
        return {"ready": False, "code": error.code, "detail": error.detail}


def _render(title: str, docs_url: str | None, endpoint: dict[str, Any]) -> bytes:
    assets = f"playground/{_version()}"
    config = {**endpoint, "examples": [{**each, "file": f"{assets}/{each['file']}"} for each in examples.listed()]}
    text = (_STATIC / "index.html").read_text(encoding="utf-8")
    for name, value in {
        "title": html.escape(title),
        "assets": assets,
        "docs": html.escape((docs_url or "").lstrip("/")),
        "config": json.dumps(config).replace("<", "\\u003c"),  # cannot end the script element
    }.items():
        text = text.replace("{{" + name + "}}", value)
    return text.encode()


def _revalidated(request: Request, content: bytes) -> Response:
    """The page, or 304 if the browser has it. Browsers always ask, because the page names the files of its version."""
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'  # weak: the same for both encodings
    headers = {**_SECURITY, "Cache-Control": "no-cache", "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return _compressed(request, content, "text/html", headers)


def _compressed(request: Request, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """The text as gzip, a third of its size, if the client takes that."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(_gzipped(content), media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(content, media_type=media_type, headers=headers)


@lru_cache(maxsize=128)
def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


@cache
def _files() -> dict[str, bytes]:
    """The page's files by name, without the page itself."""
    found = {path.name: path.read_bytes() for path in sorted(_STATIC.iterdir()) if path.suffix in _MEDIA_TYPES}
    return found | examples.pictures()


@cache
def _version() -> str:
    """A hash of all files. It is part of their URLs, so a file that is cached forever is never stale."""
    digest = hashlib.sha256()
    for name, content in _files().items():
        digest.update(name.encode() + content)
    return digest.hexdigest()[:12]
