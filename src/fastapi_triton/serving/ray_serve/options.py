# SPDX-License-Identifier: Apache-2.0
"""The options of a cluster: the arguments of `application.build`, from a Serve config file or the command line."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fastapi_triton.core.settings import Settings, setting_names


class OtherVersionError(Exception):
    """A node has other versions than the machine that deployed the cluster; the message is for the user."""


def frontend_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that are settings of a frontend.

    Other variables have the same prefix: those of the command line (`FASTAPI_TRITON_MODELS_CACHE`, `_URL`, `_KEY`), and
    those that Kubernetes injects for a Service named `fastapi-triton` (`FASTAPI_TRITON_PORT=tcp://…`).
    """
    known = setting_names().keys() - {"TRITON_URL"}  # the cluster's frontends get their Tritons from Ray
    return {name: value for name, value in environment.items() if name in known}


class Versions(BaseModel):
    """The versions that must be the same on every node."""

    python: str
    package: str

    @classmethod
    def here(cls) -> Self:
        """The versions of this process."""
        return cls(python=".".join(platform.python_version_tuple()[:2]), package=version("fastapi-triton"))

    def require_same(self, *, node: str) -> None:
        """Check that this process has these versions.

        Raises:
            OtherVersionError: this process has another Python, or another version of this package.
        """
        here = self.here()
        differences = [
            f"{name} is {ours} there, but {theirs} on the machine that deployed the cluster"
            for name, ours, theirs in (
                ("Python", here.python, self.python),
                ("fastapi-triton", here.package, self.package),
            )
            if ours != theirs
        ]
        if differences:
            raise OtherVersionError(
                f"The node {node} has other versions: {'; '.join(differences)}. Install the same versions everywhere."
            )


class ClusterOptions(BaseModel):
    """The arguments of the application: `args` in a Serve config file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    app: str | None = Field(default=None, description="module:attribute; by default main:app, if there is a main.py.")
    folder: str = Field(default=".", description="The folder of the app's module, on every node that runs a frontend.")
    models: str | None = Field(
        default=None,
        description="The model repository, on every node; by default `models` in the folder, or the bundled one.",
    )
    triton_url: str | None = Field(
        default=None,
        description="The URL of a Triton that already runs on every node, as in NVIDIA's image, instead of an embedded "
        "one; {node} is the node's address.",
        repr=False,  # it may contain a password
    )
    address: str | None = Field(
        default=None,
        description="The address that embedded Tritons listen on; by default the node's address.",
    )
    replicas: int = Field(default=1, ge=1, description="The number of Tritons, if it is fixed.")
    min_replicas: int | None = Field(
        default=None,
        ge=0,
        description="The least number of Tritons, if it follows the load. With 0, all Tritons may end; one starts with "
        "the cluster, to read the model configs.",
    )
    max_replicas: int | None = Field(
        default=None, ge=1, description="The greatest number of Tritons, if it follows the load."
    )
    target_in_flight: float = Field(
        default=4.0, gt=0, description="The number of running and queued requests per Triton that autoscaling aims at."
    )
    idle_s: float = Field(
        default=600.0, ge=0, description="How long the load must be lower before autoscaling removes a Triton."
    )
    max_in_flight_per_triton: int = Field(
        default=32, ge=1, description="Limit of requests at one Triton; further requests wait in the frontend."
    )
    gpus_per_triton: float = Field(default=0.0, ge=0, description="GPUs of the node for each Triton; 0: the CPU.")
    cpus_per_triton: float = Field(default=1.0, ge=0, description="CPUs that Ray reserves for each Triton.")
    frontends: int = Field(default=1, ge=1, description="The number of processes that run the app.")
    settings: dict[str, str] = Field(
        default_factory=dict,
        repr=False,  # secrets may be among them
        description="Environment variables for the frontends; docs/reference/settings.md lists their names.",
    )
    versions: Versions = Field(default_factory=Versions.here, description="The versions that every node must have.")

    @property
    def frontend_settings(self) -> Settings:
        """The settings of the frontends, from these options.

        Raises:
            ValidationError: a setting has an invalid value.
        """
        known = setting_names()
        return Settings.model_validate({known.get(name, name): value for name, value in self.settings.items()})

    @property
    def lease_limit_s(self) -> float:
        """The longest time of a lease: a little longer than any request, so that no lease ends before its request."""
        return self.frontend_settings.request_timeout_s + 10

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.min_replicas is None) != (self.max_replicas is None):
            raise ValueError("set both min_replicas and max_replicas, or neither")
        if self.min_replicas is not None and self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}, more than max_replicas, {self.max_replicas}")
        if self.models and "://" in self.models:
            raise ValueError("models must be a folder on every node; copy models from S3 to this folder first")
        if self.triton_url and self.models:
            raise ValueError("models is for embedded Tritons, triton_url for Tritons that already run: set only one")
        return self
