# SPDX-License-Identifier: Apache-2.0
"""Every knob: its environment variable, default and one line of meaning. `fastapi-triton serve` has a flag for each."""

from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split(value: Any) -> Any:
    """A variable's text as a list: by commas."""
    return tuple(each for each in map(str.strip, value.split(",")) if each) if isinstance(value, str) else value


def _network(text: str) -> str:
    """An IP network or address, or `unix`.

    Raises:
        ValueError: it is none.
    """
    if text != "unix":
        ip_network(text)
    return text


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Read from the environment: `FASTAPI_TRITON_<NAME>`, and `TRITON_URL` for the server."""

    model_config = SettingsConfigDict(env_prefix="FASTAPI_TRITON_", populate_by_name=True, extra="forbid")

    triton_url: str = Field(
        default="http://localhost:8000",
        pattern=r"^https?://[^/\s]+/?$",
        validation_alias=AliasChoices("TRITON_URL", "FASTAPI_TRITON_TRITON_URL"),
        description="Where Triton's HTTP port is.",
    )
    connect_timeout_s: float = Field(default=2.0, gt=0, description="How long to wait for a connection to Triton.")
    request_timeout_s: float = Field(
        default=300.0, gt=0, description="How long one request to Triton may take; then the caller gets 504."
    )
    watch_interval_s: float = Field(
        default=2.0,
        gt=0,
        description="How often Triton is asked for its models, and for changes of their configs.",
    )
    max_in_flight: int = Field(
        default=32,
        gt=0,
        description="Requests at Triton at once, per process; more get 503. Keep it below what "
        "the model holds (`max_requests`, `max_queue_size`).",
    )
    max_body_bytes: int = Field(
        default=20 * 1024 * 1024, gt=0, description="Largest request body; more is refused while it streams in."
    )
    max_image_pixels: int = Field(
        default=50_000_000, gt=0, description="Largest picture, in pixels, read from its header."
    )
    max_json_elements: int = Field(
        default=1_000_000,
        gt=0,
        description="The most values that the JSON of a request may hold, where its endpoint takes arrays.",
    )
    api_keys_file: str = Field(
        default="",
        description="The file of API keys that callers need, written by `fastapi-triton keys`; "
        "none: whoever reaches the port may call.",
    )
    public_scopes: Annotated[
        tuple[Literal["infer", "v2", "metrics", "docs"], ...], NoDecode, BeforeValidator(_split)
    ] = Field(
        default=(),
        description="What needs no key although there are keys, by commas: `infer`, `v2`, `metrics`, `docs`.",
    )
    anonymous_requests_per_minute: float = Field(
        default=0,
        ge=0,
        description="Requests for work that an address may send a minute without a key, per process; 0: any number.",
    )
    anonymous_burst: int = Field(default=0, ge=0, description="How many of them at once; 0: ten seconds' worth.")
    cors_origins: Words = Field(
        default=(),
        description="Whose pages may call from a browser, by commas: `https://example.com`; `*` is everybody's.",
    )
    allowed_hosts: Words = Field(
        default=(),
        description="The names that callers may call this server by, by commas: `draw.example.com`, `*.example.com`; "
        "none: any.",
    )
    security_headers: bool = Field(
        default=False,
        description="Whether every answer carries `X-Content-Type-Options`, `Content-Security-Policy` and their like; "
        "the page does anyway.",
    )
    hsts_max_age_s: int = Field(
        default=0, ge=0, description="With them, over TLS: for how long browsers shall come over TLS only."
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="The networks of proxies that are believed, by commas: `10.0.0.0/8`, `127.0.0.1`, `unix`.",
    )
    forwarded_header: Literal["x-forwarded", "forwarded"] = Field(
        default="x-forwarded",
        description="In which header they say who called: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded`.",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="The prefix under which a proxy shows this server, `/draw`, whether it takes it off or not.",
    )
    v2: bool = Field(
        default=True, description="Whether Triton's own protocol passes through the frontend, under `/v2`."
    )
    v2_compressed: bool = Field(
        default=False,
        description="Whether compressed requests pass to Triton, which unpacks them however large they become.",
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
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged by `fastapi-triton serve`."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How it is logged: lines for people, or one JSON object a line."
    )
