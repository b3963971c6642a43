# SPDX-License-Identifier: Apache-2.0
"""A machine with another Linux distribution: a root folder made by debootstrap, with a fresh clone in it."""

import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from support.paths import ROOT
from support.serving import Server

ENTER = Path(__file__).with_name("enter")
CLONE = "/srv/a clone"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_COMPILE", "UV_DEFAULT_INDEX")
CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT")  # of uv and pip
UNREACHABLE = "http://127.0.0.1:9"  # nothing listens there
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Release(NamedTuple):
    name: str
    codename: str
    script: str  # debootstrap's, which knows the archive; Debian's knows no newer release of Ubuntu by name
    options: tuple[str, ...] = ()


DEBIAN_12 = Release("Debian 12", "bookworm", "bookworm")
DEBIAN_13 = Release("Debian 13", "trixie", "trixie")
# Debian has no keys of Ubuntu's archive. The root is thrown away, and its own apt-get checks all signatures.
UBUNTU_24 = Release("Ubuntu 24.04", "noble", "gutsy", ("--components=main,universe", "--no-check-gpg"))


def base(release: Release, folder: Path) -> Path:
    """The root folder of a fresh installation, made once and kept.

    Raises:
        subprocess.CalledProcessError: debootstrap failed; its output has the reason.
    """
    made = folder / release.codename
    if not made.exists():
        unfinished = folder / f"{release.codename}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        options = ("--variant=minbase", *release.options)
        default_mirror = ""
        command = ["debootstrap", *options, release.codename, str(unfinished), default_mirror, release.script]
        subprocess.run(command, check=True, capture_output=True, text=True)
        unfinished.rename(made)
    return made


@dataclass
class Machine:
    """One throw-away installation. Each command runs in it with mounts and processes of its own."""

    root: Path
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)  # of this machine, by their path in the other one

    def share(self, folder: Path, path: str) -> str:
        """Show a folder of this machine at a path of the other one, and return the path."""
        self.folders[path] = folder
        return path

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def command(self, *words: str, environment: Mapping[str, str] | None = None) -> list[str]:
        variables = {"PATH": PROGRAMS, "HOME": "/root", "LANG": "C.UTF-8", **self.environment, **(environment or {})}
        if self.user != "0:0":
            variables["HOME"] = "/home/ada"
        settings = [f"{name}={value}" for name, value in variables.items()]
        folders = [f"{folder}:{path}" for path, folder in self.folders.items()]
        enter = [str(ENTER), str(self.root), self.user, *folders, "--"]
        return [*enter, "env", "--ignore-environment", f"--chdir={CLONE}", *settings, *words]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*words, environment=environment)
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=900, stdin=subprocess.DEVNULL
        )

    def setup(self, extras: str = "embedded", **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("scripts/setup", extras, **environment)

    def serve(self, *arguments: str) -> Server:
        return Server(
            self.command(".venv/bin/python", "-m", "fastapi_triton", "serve", "--embedded", *arguments), folder=ROOT
        )

    def share_pip_cache(self) -> None:
        """Use the downloads of this machine's pip, and add to them. pip does so only as root."""
        cache = Path(os.environ.get("PIP_CACHE_DIR", Path.home() / ".cache" / "pip"))
        cache.mkdir(parents=True, exist_ok=True)
        self.environment["PIP_CACHE_DIR"] = self.share(cache, "/var/cache/pip")

    def stub_torch(self) -> None:
        """Give pip an empty PyTorch. The real one is a download of gigabytes where its CPU build is out of reach."""
        folder = self.root / "stub"
        folder.mkdir()
        info = "torch-2.13.0+stub.dist-info"
        with zipfile.ZipFile(folder / "torch-2.13.0+stub-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+stub\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        self.environment["PIP_FIND_LINKS"] = "/stub"

    def assert_triton_runs_models(self) -> None:
        """Start the embedded Triton with models that need no PyTorch."""
        shutil.copytree(ROOT / "tests/support/apps/echo_app/models", self.root / "srv/models")
        server = self.serve("--models", "/srv/models", "--generate")
        try:
            server.wait_for(r"model echo: POST /models/echo/infer is available")
        finally:
            server.stop(signal.SIGKILL)

    def become_root(self) -> None:
        self.user = "0:0"

    def become_user(self) -> None:
        """From here on, commands run as a user who owns the clone and cannot become root."""
        self.user = "1000:1000"
        home = self.root / "home" / "ada"
        home.mkdir(parents=True, exist_ok=True)
        os.chown(home, 1000, 1000)
        clone = self.root / CLONE.removeprefix("/")
        for folder, _, files in os.walk(clone):
            for name in ("", *files):
                os.chown(Path(folder, name), 1000, 1000, follow_symlinks=False)


def clone_to(folder: Path) -> None:
    """Copy the repository as a new contributor gets it, with this folder's changes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)


def machine(installed: Path, root: Path) -> Machine:
    """A new machine in the folder `root`, with the network, certificates and pip settings of this one."""
    subprocess.run(["cp", "--archive", "--reflink=auto", str(installed), str(root)], check=True)
    clone_to(root / CLONE.removeprefix("/"))
    new = Machine(
        root, environment={name: os.environ[name] for name in (*PROXIES, *PIP_SETTINGS) if name in os.environ}
    )
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc", name), root / "etc" / name)
    for name in CERTIFICATES:
        if name in os.environ:  # behind a proxy with certificates of its own
            shutil.copy(os.environ[name], root / f"{name}.pem")
            new.environment[name] = f"/{name}.pem"
    if (wheels := os.environ.get("PIP_FIND_LINKS")) and Path(wheels).is_dir():
        new.environment["PIP_FIND_LINKS"] = new.share(Path(wheels), "/wheels")
    return new
