# SPDX-License-Identifier: Apache-2.0
"""Checks whether this machine can install and run the embedded Triton, and says how to fix it if not.

`gather` collects facts, `obstacles` judges them. Only `port_obstacle` has an effect on the machine: it binds a port.
Standard library only, for Python 3.8 and newer: `scripts/setup` runs it as a plain script with the Python of the
system, and a Python that is too old must get a clear message.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Iterator, Literal, NamedTuple, Sequence  # noqa: UP035 - for Python 3.8

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 12)
OLDEST_GLIBC = (2, 35)  # the wheel with Triton was built against it
GB = 1_000_000_000
# Measured for the CPU build of torch: 1.6 GB of virtual environment, plus pip's cache and unpacked files. For the CUDA
# build computed from its wheels, which are 2.7 GB: about 7 GB of virtual environment, plus the wheels twice.
INSTALL_BYTES = {"cpu": 3 * GB, "cuda": 13 * GB}
EMBEDDED_BYTES = 300_000_000  # the work folder in the temp folder: backends, model links, logs

# The Python in our range that a release of Debian or Ubuntu has as a package. Derived distributions name the release.
PACKAGED_PYTHON = {"bookworm": (3, 11), "jammy": (3, 11), "noble": (3, 12)}

DEVICES = "/dev"

Context = Literal["install", "embedded"]
TorchBuild = Literal["cpu", "cuda"]


class Facts(NamedTuple):
    """Facts about the machine, as plain data: tests can describe any machine."""

    system: str  # platform.system(): Linux, Darwin, Windows
    machine: str  # platform.machine(): x86_64, aarch64, arm64
    libc: str  # glibc, musl, or "" if unknown
    libc_version: str
    implementation: str  # CPython, PyPy
    python: tuple[int, int, int]
    is_system_python: bool  # the distribution's own: its packages can add missing parts
    has_venv: bool
    libpython: str | None  # the shared library of the running Python
    distribution: str  # ID of /etc/os-release
    distribution_like: tuple[str, ...]
    codename: str  # of the Debian or Ubuntu release
    runs_foreign_programs: bool  # False on NixOS without nix-ld
    is_root: bool
    has_sudo: bool
    torch_build: TorchBuild  # the build of PyTorch that is going to be installed
    folder: str
    free_bytes: int


class Obstacle(NamedTuple):
    """One reason why the embedded Triton cannot be installed or run here."""

    code: str  # stable: for tests and programs
    sentence: str  # for a person, with the command that fixes it
    packages: tuple[str, ...] = ()  # apt packages that fix it


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA GPU and its driver are here, so that CUDA can use it."""
    if any(Path(DEVICES, name).exists() for name in ("nvidiactl", "nvidia0")):
        return True
    # Some servers create the device files at the first use. WSL has /dev/dxg, for GPUs of any vendor.
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listed = subprocess.run([program, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and listed.stdout.startswith(b"GPU ")


def gather(folder: Path, torch_build: TorchBuild | None = None) -> Facts:
    """Collect the facts of this machine; `folder` is on the disk that the files will go to."""
    libc, libc_version = _libc()
    release = _os_release()
    return Facts(
        system=platform.system(),
        machine=platform.machine(),
        libc=libc,
        libc_version=libc_version,
        implementation=platform.python_implementation(),
        python=(sys.version_info[0], sys.version_info[1], sys.version_info[2]),
        is_system_python=sys.base_prefix == "/usr",
        # Debian's python3 has venv without the ensurepip that it needs.
        has_venv=all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")),
        libpython=_libpython(),
        distribution=release.get("ID", ""),
        distribution_like=tuple(release.get("ID_LIKE", "").split()),
        codename=release.get("UBUNTU_CODENAME") or release.get("VERSION_CODENAME", ""),
        runs_foreign_programs=release.get("ID") != "nixos" or "NIX_LD" in os.environ,
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        has_sudo=shutil.which("sudo") is not None,
        torch_build=torch_build or ("cuda" if has_nvidia_gpu() else "cpu"),
        folder=str(folder),
        free_bytes=shutil.disk_usage(_nearest(folder)).free,
    )


def obstacles(facts: Facts, *, context: Context = "embedded") -> list[Obstacle]:
    """All obstacles; the wrong platform is reported alone, since fixing the others would not help."""
    platform_obstacle = _platform_obstacle(facts)
    if platform_obstacle is not None:
        return [platform_obstacle]
    python_obstacle = _python_obstacle(facts)
    found = list(_missing_parts(facts, context)) if python_obstacle is None else [python_obstacle]
    disk = _disk_obstacle(facts, context)
    return found if disk is None else [*found, disk]


def port_obstacle(host: str, port: int, *, flag: str = "--port", host_flag: str = "--host") -> Obstacle | None:
    """Bind the port for a moment. Returns why that fails, or None."""
    if not 0 <= port <= 65535:
        return Obstacle("port-invalid", f"{port} is not a port number. Use one from 1 to 65535, such as `{flag} 8080`.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family, kind) as probe:
            # As the server does: without it, a port with connections in TIME_WAIT counts as in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return _bind_obstacle(error, host, port, flag, host_flag)
    return None


def _platform_obstacle(facts: Facts) -> Obstacle | None:
    """The wheel with Triton exists for one platform only."""
    advice = (
        "The embedded Triton needs Linux on x86-64 with glibc 2.35 or newer. Run Triton on such a machine, and run the "
        "frontend here with `fastapi-triton serve --triton http://TRITON-HOST:8000`."
    )
    if facts.system != "Linux":
        name = {"Darwin": "macOS"}.get(facts.system, facts.system or "an unknown system")
        return Obstacle("system", f"The operating system is {name}. {advice}")
    if facts.machine not in ("x86_64", "AMD64"):
        return Obstacle("machine", f"The processor is {facts.machine}. {advice}")
    if facts.libc != "glibc":
        libc = facts.libc or "not glibc"
        return Obstacle("libc", f"The C library is {libc}, as on Alpine. {advice}")
    if _numbers(facts.libc_version)[:2] < OLDEST_GLIBC:
        return Obstacle(
            "glibc", f"The glibc version is {facts.libc_version}; Debian 12 and Ubuntu 22.04 have newer ones. {advice}"
        )
    if not facts.runs_foreign_programs:
        return Obstacle(
            "nixos",
            "NixOS does not run programs of Python wheels. Set `programs.nix-ld.enable = true;` in configuration.nix, "
            "rebuild the system, and log in again.",
        )
    return None


def _python_obstacle(facts: Facts) -> Obstacle | None:
    version = "{}.{}.{}".format(*facts.python)
    if facts.implementation != "CPython":
        why, code = f"This Python is {facts.implementation}, and Triton runs CPython", "python-implementation"
    elif facts.python[:2] < OLDEST_PYTHON:
        why, code = f"Python {version} is too old", "python-too-old"
    elif facts.python[:2] > NEWEST_PYTHON:
        why, code = f"Python {version} is too new", "python-too-new"
    else:
        return None
    return _other_python(facts, code, f"{why}; 3.11 or 3.12 is required.")


def _other_python(facts: Facts, code: str, why: str) -> Obstacle:
    """Say how to get another Python: from the distribution, or with uv, which `scripts/setup` runs."""
    if _is_apt(facts) and facts.codename in PACKAGED_PYTHON:
        name = "python{}.{}".format(*PACKAGED_PYTHON[facts.codename])
        packages = (name, f"{name}-venv", f"lib{name}")
        command = _as_root(facts, f"apt-get install {' '.join(packages)}")
        return Obstacle(code, f"{why} Install it with `{command}`, then run `make run PYTHON={name}`.", packages)
    if "fedora" in (facts.distribution, *facts.distribution_like):
        command = _as_root(facts, "dnf install python3.12")
        return Obstacle(code, f"{why} Install it with `{command}`, then run `make run PYTHON=python3.12`.")
    if _is_apt(facts) and not facts.has_venv:
        command = _as_root(facts, "apt-get install python3-venv")
        sentence = f"{why} Run `{command}`, then `make run`, which downloads Python 3.12 with uv."
        return Obstacle(code, sentence, ("python3-venv",))
    return Obstacle(code, f"{why} Run `make run` without PYTHON: it finds one, or downloads Python 3.12 with uv.")


def _missing_parts(facts: Facts, context: Context) -> Iterator[Obstacle]:
    name = "python{}.{}".format(*facts.python[:2])
    missing: list[tuple[str, str, str]] = []
    if context == "install" and not facts.has_venv:
        missing.append(("venv", f"{name}-venv", f"This {name} cannot create virtual environments"))
    if facts.libpython is None:
        why = f"Triton's Python models need the shared library lib{name}.so, which this {name} lacks"
        missing.append(("libpython", f"lib{name}", why))
    # One command installs all missing packages.
    command = _as_root(facts, " ".join(("apt-get install", *(package for _, package, _ in missing))))
    for code, package, why in missing:
        if _is_apt(facts) and facts.is_system_python:
            yield Obstacle(code, f"{why}. Install the missing packages with `{command}`.", (package,))
        elif code == "libpython" and not facts.is_system_python:
            yield Obstacle(code, f"{why}. {_rebuild(facts)}")
        else:
            yield Obstacle(
                code,
                f"{why}. Install your distribution's package for it, "
                "or choose another Python with `make run PYTHON=python3.12`.",
            )


def _disk_obstacle(facts: Facts, context: Context) -> Obstacle | None:
    needed = INSTALL_BYTES[facts.torch_build] if context == "install" else EMBEDDED_BYTES
    if facts.free_bytes >= needed:
        return None
    amount = f"The disk of {facts.folder} has {facts.free_bytes / GB:.1f} GB free; {needed / GB:.1f} GB are needed"
    if context == "install":
        advice = f"Free some space (`df -h {shlex.quote(facts.folder)}` shows the disk), or clone to a larger disk"
    else:
        advice = "Set TMPDIR to a folder on a larger disk, for example `TMPDIR=/var/tmp make run`"
    return Obstacle("disk", f"{amount}. {advice}.")


def _bind_obstacle(error: OSError, host: str, port: int, flag: str, host_flag: str) -> Obstacle:
    other = port + 1 if 1024 <= port < 65535 else 8080
    change = f"with `{flag} {other}` (`make run PORT={other}`)"
    if error.errno == errno.EADDRINUSE:
        return Obstacle(
            "port-in-use",
            f"Port {port} on {host} is in use. Stop the program that uses it "
            f"(`ss -ltnp 'sport = :{port}'` shows it), or choose another port {change}.",
        )
    if error.errno == errno.EACCES:
        return Obstacle(
            "port-privileged",
            f"Only root may use port {port}. Choose a port from 1024 up, {change}.",
        )
    return Obstacle(
        "host-unknown",
        f"{host} is not an address of this machine ({error.strerror or error}). "
        f"Use `{host_flag} 127.0.0.1`, or `{host_flag} 0.0.0.0` for all its addresses.",
    )


def _rebuild(facts: Facts) -> str:
    version = "{}.{}.{}".format(*facts.python)
    return (
        "Build this Python again with `--enable-shared` "
        f"(pyenv: `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {version}`), "
        "or choose another Python with `make run PYTHON=/usr/bin/python3`."
    )


def _is_apt(facts: Facts) -> bool:
    return not {"debian", "ubuntu"}.isdisjoint((facts.distribution, *facts.distribution_like))


def _as_root(facts: Facts, command: str) -> str:
    if facts.is_root:
        return command
    return f"sudo {command}" if facts.has_sudo else f"su -c {shlex.quote(command)}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _libc() -> tuple[str, str]:
    try:
        # platform.libc_ver() reads the Python binary, and finds nothing in it on musl.
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return ("musl", "") if any(Path("/lib").glob("ld-musl-*")) else ("", "")
    return name, version


def _os_release() -> dict[str, str]:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, separator, value in pairs if separator}


def _libpython() -> str | None:
    """The path of this Python's libpython. That of another build, even of the same version, breaks compiled modules."""
    name = "libpython{}.{}.so.1.0".format(*sys.version_info[:2])
    folders = [sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix, "lib"))]
    if sys.base_prefix == "/usr":
        # The distribution's Python: a separate package installs the library into the loader's directories.
        folders += [f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or 'x86_64-linux-gnu'}", "/usr/lib64"]
    for folder in folders:
        if folder and Path(folder, name).exists():
            return str(Path(folder, name))
    return None


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def main(arguments: Sequence[str]) -> int:
    """For `scripts/setup`: `gpu` returns 0 if there is an NVIDIA GPU, and `FOLDER [cpu|cuda]` checks this machine.

    The check prints one line per obstacle, `code|apt packages|sentence`, and returns 1 if there are any.
    """
    if arguments[0] == "gpu":
        return 0 if has_nvidia_gpu() else 1
    build: TorchBuild | None = "cuda" if "cuda" in arguments[1:] else "cpu" if "cpu" in arguments[1:] else None
    found = obstacles(gather(Path(arguments[0]), build), context="install")
    for obstacle in found:
        sys.stdout.write("{}|{}|{}\n".format(obstacle.code, " ".join(obstacle.packages), obstacle.sentence))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
