# SPDX-License-Identifier: Apache-2.0
"""The URL of a generated endpoint: the model, its version, and the options of the query."""

import re
from dataclasses import dataclass
from typing import Annotated, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastapi_triton.core import paths
from fastapi_triton.endpoints.json_codec import Arrays
from fastapi_triton.triton.image_dims import Normalize

_PATH = re.compile(rf"{paths.MODELS}/([^/]+)(?:/versions/([^/]+))?/infer(?:\?(.+))?")


class InferOptions(BaseModel):
    """The query of a request to a generated endpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arrays: Arrays = "list"
    # None: as the model's config says.
    normalize: Normalize | None = None
    # The number of classes. None: whole outputs.
    classes: Annotated[int | None, Field(ge=1)] = None


DEFAULT_OPTIONS = InferOptions()


@dataclass(frozen=True, slots=True)
class InferPath:
    """The path of a model, or of one of its versions ("" lets Triton choose), and the options."""

    model: str
    version: str = ""
    options: InferOptions = DEFAULT_OPTIONS

    @property
    def path(self) -> str:
        """The path and query, without the prefix that a proxy adds."""
        versions = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        query = urlencode(self.options.model_dump(exclude_defaults=True))
        return f"{paths.MODELS}/{quote(self.model, safe='')}{versions}/infer{'?' * bool(query)}{query}"

    @classmethod
    def of(cls, path: str) -> Self | None:
        """The parsed path. None: it is not the path of a generated endpoint."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        try:
            options = InferOptions.model_validate(dict(parse_qsl(found[3] or "")))
        except ValidationError:
            return None
        address = cls(unquote(found[1]), unquote(found[2] or ""), options)
        return address if address.path == path else None
