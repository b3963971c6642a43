# SPDX-License-Identifier: Apache-2.0
"""Every knob: its environment variable, default and one line of meaning. `fastapi-triton serve` has a flag for each."""

from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    jobs_folder: str = Field(
        default="",
        description="The folder for background jobs (`Prefer: respond-async`, `/jobs`); empty: there are none. They "
        "need the extra `jobs`. `fastapi-triton serve` chooses a folder where nothing is said.",
    )
    jobs_url: str = Field(
        default="",
        pattern=r"^(sqlite:///|postgresql(\+psycopg)?://|$)",
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
        description="What webhooks of jobs are signed with, at best `whsec_` and base64; empty: none are sent. Set it "
        "in the environment, since others on the machine see flags.",
    )
    jobs_webhooks_anywhere: bool = Field(
        default=False, description="Whether webhooks go to http and to private addresses too. For tests."
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
