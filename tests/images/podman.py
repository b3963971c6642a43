# SPDX-License-Identifier: Apache-2.0
"""podman with storage of its own: builds images, and runs containers as an engine does for users."""

import json
import resource
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from support.paths import ROOT
from support.serving import free_port

HOST = "10.0.2.2"  # this machine, seen from a container


class PodmanError(Exception):
    """podman failed. The text has its output."""


class Podman:
    """The images and containers of the tests. `folder` keeps layers between runs."""

    def __init__(self, folder: Path) -> None:
        run = folder / "run"  # in memory: tests/images/run mounts it
        self._options = [f"--root={folder / 'storage'}", f"--runroot={run}", f"--tmpdir={run / 'libpod'}"]
        # Neither systemd nor cgroups are needed.
        self._options += ["--runtime=crun", "--cgroup-manager=cgroupfs", "--events-backend=none"]

    def command(self, *arguments: str) -> list[str]:
        return ["podman", *self._options, *arguments]

    def call(self, *arguments: str, **options: Any) -> str:
        """Run a command to its end. Returns its standard output without the last newline."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, **options)
        if done.returncode:
            raise PodmanError(f"podman {' '.join(arguments)}: {done.stdout}\n{done.stderr}")
        return done.stdout.removesuffix("\n")

    def has(self, image: str) -> bool:
        return not subprocess.run(self.command("image", "exists", image), check=False).returncode

    def build(self, image: str, *options: str) -> None:
        """Build an image from the repository's root. Docker's format, unlike OCI's, has the HEALTHCHECK."""
        self.call(
            "build",
            "--pull=never",
            "--isolation=chroot",
            "--format=docker",
            "--network=host",
            f"--tag={image}",
            *options,
            str(ROOT),
        )

    def config(self, image: str) -> dict[str, Any]:
        """CMD, USER, ENV and so on."""
        config: dict[str, Any] = json.loads(self.call("image", "inspect", "--format={{json .Config}}", image))
        return config

    def megabytes(self, image: str) -> float:
        return int(self.call("image", "inspect", "--format={{.Size}}", image)) / 1e6

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a command in a new container. Returns its standard output."""
        return self.call("run", "--rm", *self._limits(), "--network=none", *options, image, *command)

    @contextmanager
    def running(
        self,
        image: str,
        *command: str,
        port: int = 8080,
        env: Mapping[str, str] = MappingProxyType({}),
        options: tuple[str, ...] = (),
    ) -> Iterator["Container"]:
        """A container whose `port` is published on a free port of this machine."""
        published = free_port()
        variables = [f"--env={name}={value}" for name, value in env.items()]
        network = ["--network=slirp4netns:allow_host_loopback=true", f"--publish=127.0.0.1:{published}:{port}"]
        identifier = self.call("run", "--detach", *self._limits(), *network, *variables, *options, image, *command)
        try:
            yield Container(self, identifier, f"http://127.0.0.1:{published}")
        finally:
            self.call("rm", "--force", "--time=0", "--volumes", identifier)

    def _limits(self) -> list[str]:
        """Do not raise this machine's limits: that needs a right that root may lack."""
        kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        limits = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
        return ["--cgroups=disabled", *(f"--ulimit={name}={limit}:{limit}" for name, limit in limits.items())]


class Container:
    """One running container."""

    def __init__(self, podman: Podman, identifier: str, url: str) -> None:
        self._podman, self._identifier = podman, identifier
        self.url = url

    @property
    def log(self) -> str:
        done = subprocess.run(
            self._podman.command("logs", self._identifier),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def wait_for(self, text: str, *, timeout_s: float = 120) -> None:
        """Wait until the log has this text."""
        follow = subprocess.Popen(
            self._podman.command("logs", "--follow", self._identifier),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        alarm = threading.Timer(timeout_s, follow.kill)
        alarm.start()
        with follow:
            assert follow.stdout is not None
            has_text = any(text in line for line in follow.stdout)
            alarm.cancel()
            follow.kill()
        assert has_text, f"{text!r} did not appear in the log:\n{self.log}"

    def exec(self, *command: str) -> str:
        return self._podman.call("exec", self._identifier, *command)

    def check_health(self) -> None:
        """Run the image's HEALTHCHECK once.

        Raises:
            PodmanError: it failed.
        """
        self._podman.call("healthcheck", "run", self._identifier)

    def stop(self, grace_s: int) -> int:
        """Send the stop signal, and SIGKILL after the grace. Returns the exit status: 137 after SIGKILL."""
        self._podman.call("stop", f"--time={grace_s}", self._identifier)
        return self.exit_status()

    def exit_status(self) -> int:
        """Wait until the container ends. Returns its exit status."""
        return int(self._podman.call("wait", self._identifier))
