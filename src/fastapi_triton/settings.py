# SPDX-License-Identifier: Apache-2.0
"""Every knob: its environment variable, default and one line of meaning. `fastapi-triton serve` has a flag for each."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, FilePath, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _header_lines(value: SecretStr | None) -> SecretStr | None:
    for line in (value.get_secret_value() if value else "").splitlines():
        if line.strip() and not re.fullmatch(r"\s*[\w!#$%&'*+.^`|~-]+\s*:[^\r\n]*", line, re.ASCII):
            raise ValueError("every line must be like `Name: value`")
    return value


# Compose files and charts hand on variables that are empty.
_File = Annotated[FilePath | None, BeforeValidator(_none_if_empty)]
_Secret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]


class Settings(BaseSettings):
    """Read from the environment: `FASTAPI_TRITON_<NAME>`, and `TRITON_URL` for the server."""

    model_config = SettingsConfigDict(
        env_prefix="FASTAPI_TRITON_", populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )

    triton_url: str = Field(
        default="http://localhost:8000",
        pattern=r"^https?://[^/\s]+/?$",
        validation_alias=AliasChoices("TRITON_URL", "FASTAPI_TRITON_TRITON_URL"),
        description="Where Triton's HTTP port is.",
        repr=False,  # it may hold a password
    )
    triton_ca_file: _File = Field(
        default=None, description="Certificates (PEM) that sign Triton's, for an https URL; else the system's."
    )
    triton_client_cert_file: _File = Field(
        default=None, description="The certificate (PEM) that the frontend shows Triton, if one is wanted."
    )
    triton_client_key_file: _File = Field(
        default=None, description="Its key (PEM, without a passphrase), where it is in a file of its own."
    )
    triton_token: _Secret = Field(
        default=None,
        description="Sent to Triton as `Authorization: Bearer`. A flag is seen by everyone on the machine.",
    )
    triton_token_file: _File = Field(
        default=None, description="The same from a file, which is read again when it changes."
    )
    triton_headers: Annotated[_Secret, AfterValidator(_header_lines)] = Field(
        default=None, description="Further headers for Triton, one `Name: value` a line."
    )
    connect_timeout_s: float = Field(default=2.0, gt=0, description="How long to wait for a connection to Triton.")
    request_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="How long a request may take, waiting included; then the caller gets 504. A caller who wants it "
        "sooner says so in `X-Request-Timeout`.",
    )
    watch_interval_s: float = Field(
        default=2.0,
        gt=0,
        description="How often Triton is asked for its models, and for changes of their configs.",
    )
    max_in_flight: int = Field(
        default=32,
        gt=0,
        description="Requests of one model at Triton at once, per process; more wait. Keep it below what "
        "the model holds (`max_requests`, `max_queue_size`).",
    )
    max_waiting: int = Field(
        default=64,
        ge=0,
        description="Requests of one model that wait for their turn, per process, callers in turn; more get 503.",
    )
    max_per_caller: int = Field(
        default=0,
        ge=0,
        description="Requests of one caller, running and waiting, over all models; more get 429. 0: no such bound.",
    )
    keep_running_when_caller_leaves: bool = Field(
        default=False,
        description="Whether work that has begun runs to its end although its caller has left; else it is stopped.",
    )
    max_body_bytes: int = Field(
        default=20 * 1024 * 1024, gt=0, description="Largest request body; more is refused while it streams in."
    )
    max_image_pixels: int = Field(
        default=50_000_000, gt=0, description="Largest picture, in pixels, read from its header."
    )
    v2: bool = Field(
        default=True, description="Whether Triton's own protocol passes through the frontend, under `/v2`."
    )
    v2_admin: bool = Field(
        default=False,
        description="Whether its administration passes too: loading models, shared memory, trace and log settings.",
    )
    generate: bool = Field(
        default=False,
        description="Whether every ready model of the Triton gets an endpoint, `POST /models/{name}/infer`; "
        "`fastapi-triton serve` turns it on where nothing is said.",
    )
    openai_api: bool = Field(
        default=True, description="Serve OpenAI's Images API under `/v1`, for an endpoint that makes pictures."
    )
    a1111_api: bool = Field(
        default=True, description="Serve A1111's `/sdapi/v1/txt2img`, for an endpoint that makes pictures."
    )
    playground: bool = Field(
        default=True, description="Whether `/` is the page for drawing; else it leads to the API's docs."
    )
    metrics: bool = Field(default=True, description="Serve numbers for Prometheus at `/metrics`.")
    access_log: bool = Field(
        default=False,
        description="Log a line for each request: what was asked for, by whom, how it ended, how long it took.",
    )
    access_log_prompts: bool = Field(
        default=False,
        description="Whether that line holds the request's own texts too, prompts above all. Pictures never are in it.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged by `fastapi-triton serve`."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How it is logged: lines for people, or one JSON object a line."
    )
