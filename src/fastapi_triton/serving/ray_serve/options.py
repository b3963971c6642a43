# SPDX-License-Identifier: Apache-2.0
"""What a cluster is made of: the arguments of `application.build`, from a Serve config file or the command line."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fastapi_triton.core.settings import Settings, setting_names


class OtherVersionError(Exception):
    """A node runs something else than the one that deployed; the text is for a person."""


def frontend_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that are settings of a frontend.

    Other names begin like them: those of the command line (`FASTAPI_TRITON_MODELS_CACHE`, `_URL`, `_KEY`), and what
    Kubernetes injects for a Service named `fastapi-triton` (`FASTAPI_TRITON_PORT=tcp://…`).
    """
    known = setting_names().keys() - {"TRITON_URL"}  # each frontend gets its own
    return {name: value for name, value in environment.items() if name in known}


class Versions(BaseModel):
    """What must be the same on every node."""

    python: str
    package: str

    @classmethod
    def here(cls) -> Self:
        """Of this process."""
        return cls(python=".".join(platform.python_version_tuple()[:2]), package=version("fastapi-triton"))

    def require_same(self, *, node: str) -> None:
        """Refuse to run beside another version.

        Raises:
            OtherVersionError: this process has another Python, or another version of this package.
        """
        here = self.here()
        differences = [
            f"{name} {ours} here, {theirs} where it was deployed from"
            for name, ours, theirs in (
                ("Python", here.python, self.python),
                ("fastapi-triton", here.package, self.package),
            )
            if ours != theirs
        ]
        if differences:
            raise OtherVersionError(
                f"The node {node} does not fit this cluster: {'; '.join(differences)}. "
                "Install the same versions everywhere."
            )


class ClusterOptions(BaseModel):
    """The arguments of the application, under `args` in a Serve config file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    app: str | None = Field(default=None, description="module:attribute; by default main:app where there is a main.py.")
    folder: str = Field(default=".", description="Where the app's module lies, on every node that runs a frontend.")
    models: str | None = Field(
        default=None,
        description="The model repository, on every node; by default `models` in the folder, or ours.",
    )
    triton_url: str | None = Field(
        default=None,
        description="Instead of an embedded Triton: one that runs on every node already, as in NVIDIA's image; "
        "{node} is the node's address.",
        repr=False,  # it may hold a password
    )
    address: str | None = Field(
        default=None,
        description="Where embedded Tritons listen; by default at the node's address.",
    )
    replicas: int = Field(default=1, ge=1, description="Tritons, where their number is fixed.")
    min_replicas: int | None = Field(
        default=None,
        ge=0,
        description="Tritons at least, if their number follows the load. 0: all may go, but for one at the start, "
        "which tells what its models are.",
    )
    max_replicas: int | None = Field(default=None, ge=1, description="Tritons at most, then.")
    target_in_flight: float = Field(
        default=4.0, gt=0, description="Requests running and queued for each Triton that the number follows."
    )
    idle_s: float = Field(
        default=600.0, ge=0, description="How long the load must be less before a Triton goes that it does not need."
    )
    max_in_flight_per_triton: int = Field(
        default=32, ge=1, description="Requests at one Triton at once; more wait in the frontend."
    )
    gpus_per_triton: float = Field(default=0.0, ge=0, description="Of a node's GPUs; 0: it computes on the CPU.")
    cpus_per_triton: float = Field(default=1.0, ge=0, description="That Ray sets aside for a Triton.")
    frontends: int = Field(default=1, ge=1, description="Processes that run the app.")
    settings: dict[str, str] = Field(
        default_factory=dict,
        repr=False,  # secrets may be among them
        description="Variables for the frontends, by their names in docs/reference/settings.md.",
    )
    versions: Versions = Field(default_factory=Versions.here, description="Required of every node.")

    @property
    def frontend_settings(self) -> Settings:
        """Those that frontends run with, as far as they come with the options.

        Raises:
            ValidationError: one of them cannot be.
        """
        known = setting_names()
        return Settings.model_validate({known.get(name, name): value for name, value in self.settings.items()})

    @property
    def lease_limit_s(self) -> float:
        """A little longer than any request, so that it is never the lease that ends first."""
        return self.frontend_settings.request_timeout_s + 10

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.min_replicas is None) != (self.max_replicas is None):
            raise ValueError("give both min_replicas and max_replicas, or neither")
        if self.min_replicas is not None and self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is more than max_replicas")
        if self.models and "://" in self.models:
            raise ValueError("models: a folder that is on every node; bring models from S3 there before")
        if self.triton_url and self.models:
            raise ValueError("models are of an embedded Triton, triton_url of one that runs already: give one of them")
        return self
