# SPDX-License-Identifier: Apache-2.0
"""Every setting: environment variable, default and description. `fastapi-triton serve` has a flag for each."""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, FilePath, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fastapi_triton.core import urls

# The key of an app's settings in the state that its lifespan shares with the server.
STATE = "settings"


def _split(value: Any) -> Any:
    """The items of a comma-separated variable; other values unchanged."""
    return tuple(each for each in map(str.strip, value.split(",")) if each) if isinstance(value, str) else value


def _network(text: str) -> str:
    """An IP network or address, or `unix`.

    Raises:
        ValueError: it is neither.
    """
    if text != "unix":
        ip_network(text)
    return text


_NOT_PASSED_ON = frozenset(
    (
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect"),
        *("content-length", "content-encoding", "cookie", "authorization", "x-api-key", "x-request-id"),
        *("proxy-authorization", "proxy-authenticate", "proxy-connection"),
    )
)


def _passable_header(name: str) -> str:
    """The name of a header that may be passed on to Triton, in lower case.

    Raises:
        ValueError: the name is invalid, or the header concerns one connection, the body's encoding or credentials.
    """
    if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) or name.lower() in _NOT_PASSED_ON:
        raise ValueError(f"the header {name} cannot be passed on")
    return name.lower()


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split)]


HeaderNames = Annotated[tuple[Annotated[str, AfterValidator(_passable_header)], ...], NoDecode, BeforeValidator(_split)]


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _token(value: SecretStr | None) -> SecretStr | None:
    token = value.get_secret_value().strip() if value else ""  # files and secrets tend to end with a line break
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token must be one word of printable ASCII characters")
    return SecretStr(token) if token else None


def _header_lines(value: SecretStr | None) -> SecretStr | None:
    for line in (value.get_secret_value() if value else "").splitlines():
        if line.strip() and not re.fullmatch(r"\s*[\w!#$%&'*+.^`|~-]+\s*:[^\r\n]*", line, re.ASCII):
            raise ValueError("each line must have the form `Name: value`")
    return value


# Compose files and Helm charts pass empty variables on.
_File = Annotated[FilePath | None, BeforeValidator(_none_if_empty)]
_Secret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]


def variable(name: str) -> str:
    """A setting's environment variable: `TRITON_…` if it is about Triton, else `FASTAPI_TRITON_…`."""
    return name.upper() if name.startswith("triton_") else f"FASTAPI_TRITON_{name.upper()}"


def _triton_variables(name: str) -> AliasChoices:
    """The variable of a setting about Triton, and its name in version 0.1."""
    return AliasChoices(variable(name), f"FASTAPI_TRITON_{name.upper()}")


class Settings(BaseSettings):
    """All settings, read from the environment variables that `variable` names."""

    model_config = SettingsConfigDict(
        env_prefix="FASTAPI_TRITON_", populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )

    triton_url: Annotated[str, AfterValidator(urls.triton_url)] = Field(
        default="http://localhost:8000",
        validation_alias=_triton_variables("triton_url"),
        description="URL of Triton's HTTP port. A path in it precedes `/v2`.",
        repr=False,  # it may contain a password
    )
    triton_grpc_url: Annotated[str | None, AfterValidator(urls.triton_grpc_url)] = Field(
        default=None,
        validation_alias=_triton_variables("triton_grpc_url"),
        description="URL of Triton's gRPC port, `grpc://host:8001` or `grpcs://host:8001` (TLS), for streams that HTTP "
        "cannot carry; none: HTTP only. Needs the extra `grpc`.",
    )
    triton_ca_file: _File = Field(
        default=None,
        validation_alias=_triton_variables("triton_ca_file"),
        description="PEM file of Triton's certificate authority; none: the system's.",
    )
    triton_client_cert_file: _File = Field(
        default=None,
        validation_alias=_triton_variables("triton_client_cert_file"),
        description="PEM file of the frontend's client certificate.",
    )
    triton_client_key_file: _File = Field(
        default=None,
        validation_alias=_triton_variables("triton_client_key_file"),
        description="PEM file of the private key, unencrypted; none: in the certificate's file.",
    )
    triton_token: Annotated[_Secret, AfterValidator(_token)] = Field(
        default=None,
        validation_alias=_triton_variables("triton_token"),
        description="Token for Triton, sent as `Authorization: Bearer`.",
    )
    triton_token_file: _File = Field(
        default=None,
        validation_alias=_triton_variables("triton_token_file"),
        description="File with the token, read again when it changes.",
    )
    triton_headers: Annotated[_Secret, AfterValidator(_header_lines)] = Field(
        default=None,
        validation_alias=_triton_variables("triton_headers"),
        description="More headers for Triton, one `Name: value` per line.",
    )
    connect_timeout_s: float = Field(default=2.0, gt=0, description="Seconds to wait for a connection to Triton.")
    request_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="Seconds until a request fails with 504, waiting included. `X-Request-Timeout` shortens it.",
    )
    watch_interval_s: float = Field(
        default=2.0,
        gt=0,
        description="Seconds between polls of Triton's models and configs.",
    )
    max_in_flight: int = Field(
        default=32,
        gt=0,
        description="Slots: requests of one model at Triton at once, per process. Keep it below the model's "
        "`max_requests` and `max_queue_size`.",
    )
    max_waiting: int = Field(
        default=64,
        ge=0,
        description="Requests of one model that wait for a slot, per process; more get 503.",
    )
    max_per_caller: int = Field(
        default=0,
        ge=0,
        description="Unfinished requests of one caller, over all models; more get 429. 0: no limit.",
    )
    keep_running_when_caller_leaves: bool = Field(
        default=False,
        description="Finish running requests whose client has disconnected, instead of cancelling them.",
    )
    event_heartbeat_s: float = Field(
        default=8.0,
        gt=0,
        description="Seconds of silence before an event stream sends a heartbeat. Keep it below your gateways' read "
        "timeouts.",
    )
    max_body_bytes: int = Field(
        default=20 * 1024 * 1024, gt=0, description="Largest request body, in bytes; more gets 413."
    )
    max_buffered_body_bytes: int = Field(
        default=512 * 1024 * 1024,
        gt=0,
        description="Bytes of large request bodies in memory at once, per process; more get 503.",
    )
    max_image_pixels: int = Field(default=50_000_000, gt=0, description="Largest image in a request, in pixels.")
    max_image_side: int = Field(default=16_384, gt=0, description="Longest side of an image in a request, in pixels.")
    max_json_elements: int = Field(
        default=1_000_000,
        gt=0,
        description="Values in a JSON body, if the endpoint takes arrays.",
    )
    max_text_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of strings in a JSON body that contain non-ASCII characters or `\\u` escapes.",
    )
    head_timeout_s: float = Field(
        default=15.0, gt=0, description="Seconds for a request's headers to arrive; then 408."
    )
    body_pause_timeout_s: float = Field(
        default=20.0, gt=0, description="Longest pause in a body, in seconds; then 408."
    )
    body_timeout_s: float = Field(default=300.0, gt=0, description="Seconds for a whole body to arrive; then 408.")
    idle_timeout_s: float = Field(
        default=75.0,
        gt=0,
        description="Seconds that an idle connection stays open. Keep it above your load balancer's.",
    )
    max_connections: int = Field(
        default=1000, gt=0, description="Open connections, per process; requests on more get 503."
    )
    shutdown_delay_s: float = Field(
        default=0.0,
        ge=0,
        description="Seconds after SIGTERM in which `serve` fails `/health/ready` but still takes requests, so that "
        "load balancers notice.",
    )
    shutdown_grace_s: float = Field(
        default=120.0, ge=0, description="Seconds after the shutdown delay until running requests are cancelled."
    )
    api_keys_file: str = Field(
        default="",
        description="File of API keys, written by `fastapi-triton keys`; none: requests need no key.",
    )
    public_scopes: Annotated[
        tuple[Literal["infer", "v2", "metrics", "docs"], ...], NoDecode, BeforeValidator(_split)
    ] = Field(
        default=(),
        description="Scopes that need no key, comma-separated: `infer`, `v2`, `metrics`, `docs`.",
    )
    anonymous_requests_per_minute: float = Field(
        default=0,
        ge=0,
        description="Inference requests per minute from an IP address without a key, per process; 0: no limit.",
    )
    anonymous_burst: int = Field(default=0, ge=0, description="Such requests at once; 0: ten seconds' worth.")
    cors_origins: CommaSeparated = Field(
        default=(),
        description="Allowed browser origins, comma-separated: `https://example.com`; `*`: all.",
    )
    allowed_hosts: CommaSeparated = Field(
        default=(),
        description="Allowed host names, comma-separated: `draw.example.com`, `*.example.com`; none: all.",
    )
    security_headers: bool = Field(
        default=False,
        description="Add headers such as `Content-Security-Policy` to every response; the drawing page and `/docs` "
        "always have their own.",
    )
    hsts_max_age_s: int = Field(
        default=0,
        ge=0,
        description="Seconds in `Strict-Transport-Security`, sent with these headers over TLS; 0: not sent.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Networks of trusted proxies, comma-separated: `10.0.0.0/8`, `127.0.0.1`, `unix`.",
    )
    forwarded_header: Literal["x-forwarded", "forwarded"] = Field(
        default="x-forwarded",
        description="Headers that trusted proxies set: `x-forwarded` (`X-Forwarded-For`, `-Proto`, `-Host`) or "
        "`forwarded`.",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="URL prefix behind a proxy, such as `/draw`, whether the proxy strips it or not.",
    )
    v2: bool = Field(default=True, description="Pass on Triton's own protocol under `/v2`.")
    v2_compressed: bool = Field(
        default=False,
        description="Accept gzip and deflate bodies under `/v2`.",
    )
    v2_headers: HeaderNames = Field(
        default=(),
        description="More headers to pass on to Triton, comma-separated: those of its `--http-header-forward-pattern`.",
    )
    v2_admin: bool = Field(
        default=False,
        description="Pass on administration requests too: loading models, shared memory, trace and log settings.",
    )
    generate: bool = Field(
        default=False,
        description="Serve `POST /models/{name}/infer` for every ready model; on in `serve`.",
    )
    openai_api: bool = Field(
        default=True, description="Serve OpenAI's Images API under `/v1`, if an endpoint makes pictures."
    )
    picture_urls_max_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        description="Bytes of pictures stored for OpenAI's `response_format: url`, an hour each, in the folder of jobs "
        "or a temporary one; the oldest give way. 0: no URLs.",
    )
    fetch_image_urls: bool = Field(
        default=False,
        description="Fetch https URLs of images in OpenAI's `image_url`, from public addresses only.",
    )
    a1111_api: bool = Field(
        default=True, description="Serve A1111's `/sdapi/v1/txt2img`, if an endpoint makes pictures."
    )
    jobs_folder: str = Field(
        default="",
        description="Folder of background jobs (extra `jobs`); none: no jobs. `serve` chooses one by default.",
    )
    jobs_url: Annotated[str, AfterValidator(urls.database_url)] = Field(
        default="",
        pattern=r"^(sqlite:///|postgresql(\+psycopg)?://|$)",
        repr=False,  # it may contain a password
        description="Database of jobs; none: SQLite in their folder. Several machines need PostgreSQL and a shared "
        "folder.",
    )
    jobs_max_waiting: int = Field(default=100, gt=0, description="Jobs that wait; more get 503.")
    jobs_max_per_caller: int = Field(default=20, gt=0, description="Unfinished jobs of one caller; more get 429.")
    jobs_max_running: int = Field(default=4, gt=0, description="Jobs that run at once, per process.")
    jobs_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds from acceptance until an unfinished job fails.",
    )
    jobs_keep_s: float = Field(default=86400.0, gt=0, description="Seconds to keep a finished job and its response.")
    jobs_webhook_secret: str = Field(
        default="",
        repr=False,
        description="Secret that signs webhooks, ideally `whsec_` and base64; none: no webhooks.",
    )
    jobs_webhooks_anywhere: bool = Field(
        default=False, description="Send webhooks to http URLs and private addresses too, for tests."
    )
    playground: bool = Field(default=True, description="Serve the drawing page at `/`; otherwise redirect to `/docs`.")
    metrics: bool = Field(default=True, description="Serve metrics for Prometheus at `/metrics`.")
    access_log: bool = Field(
        default=False,
        description="Log each request: route, caller, outcome, duration.",
    )
    access_log_prompts: bool = Field(
        default=False,
        description="Log prompts and other texts too; images are never logged.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that `serve` logs."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="`text`: lines for people; `json`: one object per line."
    )


def is_secret(name: str) -> bool:
    """Whether a setting's value is a secret, or a URL that may contain one."""
    field = Settings.model_fields.get(name)
    return field is None or not field.repr or field.annotation == SecretStr | None


def old_names(environment: Iterable[str]) -> dict[str, str]:
    """The variables of an environment that have a name of version 0.1, with their new names.

    The next release ignores the old names.
    """
    renamed = {f"FASTAPI_TRITON_{variable(name)}": variable(name) for name in Settings.model_fields}
    return {old: renamed[old] for old in environment if old in renamed}


def setting_names() -> dict[str, str]:
    """Variable → name of the setting, for the new and the old variables."""
    names = {f"FASTAPI_TRITON_{name.upper()}": name for name in Settings.model_fields}
    return names | {variable(name): name for name in Settings.model_fields}
