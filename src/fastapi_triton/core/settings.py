# SPDX-License-Identifier: Apache-2.0
"""Every setting: environment variable, default and one line of meaning. `fastapi-triton serve` has a flag for each."""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, FilePath, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# The key of an app's settings in the state that its lifespan shares with the server.
STATE = "settings"


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


_NOT_PASSED = frozenset(
    (
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect"),
        *("content-length", "content-encoding", "cookie", "authorization", "x-api-key", "x-request-id"),
        *("proxy-authorization", "proxy-authenticate", "proxy-connection"),
    )
)


def _passed_header(name: str) -> str:
    """The name of a header that may be passed on, in lower case.

    Raises:
        ValueError: it is no name, or the header concerns one connection, the body's form or credentials.
    """
    if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) or name.lower() in _NOT_PASSED:
        raise ValueError(f"the header {name} cannot be passed on")
    return name.lower()


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split)]


HeaderNames = Annotated[tuple[Annotated[str, AfterValidator(_passed_header)], ...], NoDecode, BeforeValidator(_split)]


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _one_word(value: SecretStr | None) -> SecretStr | None:
    word = value.get_secret_value().strip() if value else ""  # files and secrets tend to end with a line break
    if not word.isascii() or not word.isprintable() or " " in word:
        raise ValueError("a token is one word of ASCII")
    return SecretStr(word) if word else None


def _header_lines(value: SecretStr | None) -> SecretStr | None:
    for line in (value.get_secret_value() if value else "").splitlines():
        if line.strip() and not re.fullmatch(r"\s*[\w!#$%&'*+.^`|~-]+\s*:[^\r\n]*", line, re.ASCII):
            raise ValueError("every line must be like `Name: value`")
    return value


def _triton_url(url: str) -> str:
    """The URL of Triton's HTTP port. No error repeats it, since it may hold a password.

    Raises:
        ValueError: it is no such URL.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise ValueError("write it as http://host:port, or https://host:port")
    if "?" in url or "#" in url:
        raise ValueError("leave out the query (?) and the fragment (#)")
    path = parts.path.rstrip("/")
    if path.endswith("/v2"):
        raise ValueError("leave out /v2 at its end: it is added to every request")
    if not re.fullmatch(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*", path):
        raise ValueError("its path may hold letters, digits and -._~!$&'()*+,;=:@ only; write others as %20")
    return url


def _database_url(url: str) -> str:
    """A URL with an encoded password. With a plain @ in it, the driver's errors would show a part of it as the host.

    Raises:
        ValueError: it holds an @ that is not encoded.
    """
    if url.startswith("postgresql") and url.partition("://")[2].partition("?")[0].count("@") > 1:
        raise ValueError("write an @ within the user name or the password as %40")
    return url


# Compose files and charts hand on variables that are empty.
_File = Annotated[FilePath | None, BeforeValidator(_none_if_empty)]
_Secret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]


def variable(name: str) -> str:
    """A setting's environment variable: `TRITON_…` if it is about the Triton behind, else `FASTAPI_TRITON_…`."""
    return name.upper() if name.startswith("triton_") else f"FASTAPI_TRITON_{name.upper()}"


def _of_triton(name: str) -> AliasChoices:
    """The variable of a setting about Triton, and its name until 0.1."""
    return AliasChoices(variable(name), f"FASTAPI_TRITON_{name.upper()}")


class Settings(BaseSettings):
    """Read from the environment, by the names that `variable` gives."""

    model_config = SettingsConfigDict(
        env_prefix="FASTAPI_TRITON_", populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )

    triton_url: Annotated[str, AfterValidator(_triton_url)] = Field(
        default="http://localhost:8000",
        validation_alias=_of_triton("triton_url"),
        description="Where Triton's HTTP port is. A path, as behind an ingress, goes before `/v2`.",
        repr=False,  # it may hold a password
    )
    triton_ca_file: _File = Field(
        default=None,
        validation_alias=_of_triton("triton_ca_file"),
        description="Certificates (PEM) that sign Triton's, for an https URL; else the system's.",
    )
    triton_client_cert_file: _File = Field(
        default=None,
        validation_alias=_of_triton("triton_client_cert_file"),
        description="The certificate (PEM) that the frontend shows Triton, if one is wanted.",
    )
    triton_client_key_file: _File = Field(
        default=None,
        validation_alias=_of_triton("triton_client_key_file"),
        description="Its key (PEM, without a passphrase), where it is in a file of its own.",
    )
    triton_token: Annotated[_Secret, AfterValidator(_one_word)] = Field(
        default=None,
        validation_alias=_of_triton("triton_token"),
        description="Sent to Triton as `Authorization: Bearer`. A flag is seen by everyone on the machine.",
    )
    triton_token_file: _File = Field(
        default=None,
        validation_alias=_of_triton("triton_token_file"),
        description="The same from a file, which is read again when it changes.",
    )
    triton_headers: Annotated[_Secret, AfterValidator(_header_lines)] = Field(
        default=None,
        validation_alias=_of_triton("triton_headers"),
        description="Further headers for Triton, one `Name: value` a line.",
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
        description="How often Triton is asked for its models. A config that is older is read again before a request.",
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
    event_heartbeat_s: float = Field(
        default=8.0,
        gt=0,
        description="A stream of events that is silent for this long gets its head and a comment, or the request's "
        "position in the queue. Keep it below the read timeouts of your gateways.",
    )
    max_body_bytes: int = Field(
        default=20 * 1024 * 1024, gt=0, description="Largest request body; more is refused while it streams in."
    )
    max_buffered_body_bytes: int = Field(
        default=512 * 1024 * 1024,
        gt=0,
        description="Bytes of request bodies held in memory at once, per process; requests beyond it get 503. Bodies "
        "of up to 64 KiB do not count.",
    )
    max_image_pixels: int = Field(
        default=50_000_000, gt=0, description="Largest picture, in pixels, read from its header."
    )
    max_image_side: int = Field(
        default=16_384, gt=0, description="Longest side of a picture, in pixels, read from its header."
    )
    head_timeout_s: float = Field(
        default=15.0, gt=0, description="How long the head of a request may take to come whole; then 408."
    )
    body_pause_timeout_s: float = Field(
        default=20.0, gt=0, description="How long nothing of a request's body may come; then 408."
    )
    body_timeout_s: float = Field(
        default=300.0, gt=0, description="How long a request's whole body may take to come; then 408."
    )
    idle_timeout_s: float = Field(
        default=75.0,
        gt=0,
        description="How long a connection stays open without a request. Keep it longer than that of the balancer.",
    )
    max_connections: int = Field(
        default=1000, gt=0, description="Connections open at once, per process; requests on more of them get 503."
    )
    shutdown_delay_s: float = Field(
        default=0.0,
        ge=0,
        description="How long `serve` goes on serving after SIGTERM, unready, until balancers have noticed.",
    )
    shutdown_grace_s: float = Field(
        default=120.0, ge=0, description="How long running requests then have to finish, before they are stopped."
    )
    max_json_elements: int = Field(
        default=1_000_000,
        gt=0,
        description="The most values that the JSON of a request may hold, where its endpoint takes arrays.",
    )
    max_text_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1024 * 1024,
        description="The most bytes of texts in a JSON body that hold characters beyond ASCII or `\\u` escapes. Base64 "
        "does not count.",
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
        description="Whether requests under `/v2` may be compressed by gzip or deflate; they are unpacked up to the "
        "body limit.",
    )
    v2_headers: HeaderNames = Field(
        default=(),
        description="Further headers that go on to Triton, separated by commas: those of its "
        "`--http-header-forward-pattern`.",
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
    jobs_folder: str = Field(
        default="",
        description="The folder for background jobs (`Prefer: respond-async`, `/jobs`); empty: there are none. They "
        "need the extra `jobs`. `fastapi-triton serve` chooses a folder where nothing is said.",
    )
    jobs_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default="",
        pattern=r"^(sqlite:///|postgresql(\+psycopg)?://|$)",
        repr=False,  # it may hold a password
        description="The database that says which jobs there are: by default a SQLite file in their folder. For "
        "several machines: PostgreSQL, and a folder that they share.",
    )
    jobs_max_waiting: int = Field(default=100, gt=0, description="Jobs that wait; more get 503.")
    jobs_max_per_caller: int = Field(default=20, gt=0, description="Jobs of one caller that wait or run; more get 429.")
    jobs_max_running: int = Field(default=4, gt=0, description="Jobs that run at once, per process.")
    jobs_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="How long after it was accepted a job fails if it is not done, whatever it waits for.",
    )
    jobs_keep_s: float = Field(
        default=86400.0, gt=0, description="How long a job and its answer are kept when it is over."
    )
    jobs_webhook_secret: str = Field(
        default="",
        repr=False,
        description="What webhooks of jobs are signed with, at best `whsec_` and base64; empty: none are sent. Set it "
        "in the environment, since others on the machine see flags.",
    )
    jobs_webhooks_anywhere: bool = Field(
        default=False, description="Whether webhooks go to http and to private addresses too. For tests."
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


def old_names(environment: Iterable[str]) -> dict[str, str]:
    """The variables of an environment that have a name of 0.1, with today's. The next release ignores the old ones."""
    renamed = {f"FASTAPI_TRITON_{variable(name)}": variable(name) for name in Settings.model_fields}
    return {old: renamed[old] for old in environment if old in renamed}


def setting_names() -> dict[str, str]:
    """The names of settings by their variables, old names too."""
    names = {f"FASTAPI_TRITON_{name.upper()}": name for name in Settings.model_fields}
    return names | {variable(name): name for name in Settings.model_fields}
