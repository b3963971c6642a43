# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document says which operations need a key; Swagger UI shows "Authorize" for it."""

from collections.abc import Callable
from typing import Any

from fastapi_triton import TritonFrontend
from support.scribble_app import PATH

App = Callable[..., TritonFrontend]
SCHEMES = [{"Bearer": []}, {"Key": []}, {"Basic": []}]


def security(document: dict[str, Any], path: str, method: str = "post") -> Any:
    return document["paths"][path][method].get("security")


def test_operations_name_the_ways_to_send_a_key(app_with: App) -> None:
    document = app_with().openapi()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["Bearer"]["scheme"], schemes["Key"]["name"]) == ("bearer", "X-API-Key")
    for path in (PATH, "/v1/images/edits", "/sdapi/v1/txt2img"):
        assert security(document, path) == SCHEMES
    assert security(document, "/health/live", "get") is None


def test_key_is_optional_in_public_scopes(app_with: App) -> None:
    document = app_with(public_scopes=("infer",)).openapi()
    assert security(document, PATH) == [*SCHEMES, {}]


def test_there_are_no_security_schemes_without_keys(app_with: App) -> None:
    document = app_with(api_keys_file="").openapi()
    assert "securitySchemes" not in document["components"]
    assert security(document, PATH) is None
