# SPDX-License-Identifier: Apache-2.0
"""Can this machine install and run the embedded Triton, and if not, what mends it?

`gather` looks, `obstacles` judges; only `port_obstacle` touches anything. Standard library only, and it runs
on Python 3.8 too: `scripts/setup` starts it as a plain script with whatever Python the system has, so that
"too old" is said politely.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import shlex
import shutil
import socket
import sys
import sysconfig
from pathlib import Path
from typing import Iterator, Literal, NamedTuple, Sequence  # noqa: UP035 - Python 3.8 has no other place

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 12)
OLDEST_GLIBC = (2, 35)  # what the wheel that carries Triton was built against
GB = 1_000_000_000
# Measured: 1.6 GB of virtual environment with the CPU build of torch, and pip's cache and unpacking beside.
INSTALL_BYTES = 3 * GB
EMBEDDED_BYTES = 300_000_000  # the work folder in the temp folder: backends, model links, logs

# Which Python in our range a release of the system packages itself.
PACKAGED_PYTHON = {
    ("debian", "12"): (3, 11),
    ("ubuntu", "22.04"): (3, 11),
    ("ubuntu", "24.04"): (3, 12),
}

Context = Literal["install", "embedded"]


class Facts(NamedTuple):
    """What was found; plain data, so that tests can be any machine."""

    system: str  # platform.system(): Linux, Darwin, Windows
    machine: str  # platform.machine(): x86_64, aarch64, arm64
    libc: str  # glibc, musl, or "" where it is unknown
    libc_version: str
    implementation: str  # CPython, PyPy
    python: tuple[int, int, int]
    is_system_python: bool  # the distribution's own, so its packages complete it
    has_venv: bool
    libpython: str | None  # the shared library of the very Python that runs
    distribution: str  # ID of /etc/os-release
    distribution_version: str
    distribution_like: tuple[str, ...]
    is_root: bool
    folder: str
    free_bytes: int


class Obstacle(NamedTuple):
    """One reason why it cannot work here."""

    code: str  # stable: for tests and programs
    sentence: str  # for a person, with the command that mends it
    packages: tuple[str, ...] = ()  # apt packages that mend it


def gather(folder: Path) -> Facts:
    """Look at this machine; `folder` is where the bytes will go."""
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
        distribution_version=release.get("VERSION_ID", ""),
        distribution_like=tuple(release.get("ID_LIKE", "").split()),
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        folder=str(folder),
        free_bytes=shutil.disk_usage(_nearest(folder)).free,
    )


def obstacles(facts: Facts, *, context: Context = "embedded") -> list[Obstacle]:
    """Everything that stands in the way. What cannot be mended on this machine hides what comes after it."""
    platform_obstacle = _platform_obstacle(facts)
    if platform_obstacle is not None:
        return [platform_obstacle]
    python_obstacle = _python_obstacle(facts)
    if python_obstacle is not None:
        return [python_obstacle]
    found = list(_missing_parts(facts, context))
    disk = _disk_obstacle(facts, context)
    return found if disk is None else [*found, disk]


def port_obstacle(host: str, port: int, *, flag: str = "--port", host_flag: str = "--host") -> Obstacle | None:
    """Why the port cannot be had, found by binding to it for a moment."""
    if not 0 <= port <= 65535:
        return Obstacle("port-invalid", f"{port} is no port number: give one from 1 to 65535, such as `{flag} 8080`.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family, kind) as probe:
            # As the server does it: a port whose last connections still linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return _bind_obstacle(error, host, port, flag, host_flag)
    return None


def _platform_obstacle(facts: Facts) -> Obstacle | None:
    """The wheel with Triton exists for one platform only."""
    elsewhere = (
        "run Triton on a Linux x86-64 machine and front it from here with "
        "`fastapi-triton serve --triton http://THAT-MACHINE:8000`"
    )
    needs = "the embedded Triton needs Linux on x86-64 with glibc 2.35 or newer"
    if facts.system != "Linux":
        name = {"Darwin": "macOS"}.get(facts.system, facts.system or "an unknown system")
        return Obstacle("system", f"This is {name}, but {needs}: {elsewhere}.")
    if facts.machine not in ("x86_64", "AMD64"):
        return Obstacle("machine", f"This processor is {facts.machine}, but {needs}: {elsewhere}.")
    if facts.libc != "glibc":
        libc = facts.libc or "not glibc"
        return Obstacle("libc", f"The C library here is {libc}, as on Alpine, but {needs}: {elsewhere}.")
    if _numbers(facts.libc_version)[:2] < OLDEST_GLIBC:
        return Obstacle(
            "glibc",
            f"glibc here is {facts.libc_version}, but {needs} (Debian 12, Ubuntu 22.04): {elsewhere}.",
        )
    return None


def _python_obstacle(facts: Facts) -> Obstacle | None:
    version = "{}.{}.{}".format(*facts.python)
    if facts.implementation != "CPython":
        why, code = (
            f"{facts.implementation} cannot run Triton's Python models; CPython can",
            "python-implementation",
        )
    elif facts.python[:2] < OLDEST_PYTHON:
        why, code = f"Python {version} is too old", "python-too-old"
    elif facts.python[:2] > NEWEST_PYTHON:
        why, code = f"Python {version} is too new", "python-too-new"
    else:
        return None
    packaged = PACKAGED_PYTHON.get((facts.distribution, facts.distribution_version))
    if packaged is not None:
        name = "python{}.{}".format(*packaged)
        packages = (name, f"{name}-venv", f"lib{name}")
        command = f"install one with `{_apt_install(facts, packages)}`, then `make run PYTHON={name}`"
        return Obstacle(code, f"{why}: 3.11 or 3.12 is needed; {command}.", packages)
    command = (
        "where you have one, choose it with `make run PYTHON=python3.12`; if not, "
        '`uv python install 3.12` and `make run PYTHON="$(uv python find 3.12)"` bring one'
    )
    return Obstacle(code, f"{why}: 3.11 or 3.12 is needed; {command}.")


def _missing_parts(facts: Facts, context: Context) -> Iterator[Obstacle]:
    name = "python{}.{}".format(*facts.python[:2])
    missing: list[tuple[str, str, str]] = []
    if context == "install" and not facts.has_venv:
        missing.append(("venv", f"{name}-venv", f"This {name} cannot make virtual environments"))
    if facts.libpython is None:
        why = f"Triton's Python models need the shared library lib{name}.so, and this {name} has none"
        missing.append(("libpython", f"lib{name}", why))
    # One command for all of them, so that nobody has to come back for the second.
    command = _apt_install(facts, tuple(package for _, package, _ in missing))
    for code, package, why in missing:
        if _is_apt(facts) and facts.is_system_python:
            yield Obstacle(code, f"{why}: install what is missing with `{command}`.", (package,))
        elif code == "libpython" and not facts.is_system_python:
            yield Obstacle(code, f"{why}: {_rebuild(facts)}.")
        else:
            yield Obstacle(
                code,
                f"{why}: install your system's package that brings it, "
                "or choose another Python with `make run PYTHON=python3.12`.",
            )


def _disk_obstacle(facts: Facts, context: Context) -> Obstacle | None:
    needed = INSTALL_BYTES if context == "install" else EMBEDDED_BYTES
    if facts.free_bytes >= needed:
        return None
    amount = f"{facts.folder} has {facts.free_bytes / GB:.1f} GB free, and {needed / GB:.1f} GB are needed"
    if context == "install":
        advice = f"make room (`df -h {shlex.quote(facts.folder)}` shows the disk), or clone to a larger disk"
    else:
        advice = "name a folder on a larger disk, such as `TMPDIR=/var/tmp make run`"
    return Obstacle("disk", f"{amount}: {advice}.")


def _bind_obstacle(error: OSError, host: str, port: int, flag: str, host_flag: str) -> Obstacle:
    other = port + 1 if 1024 <= port < 65535 else 8080
    change = f"with `{flag} {other}` (`make run PORT={other}`)"
    if error.errno == errno.EADDRINUSE:
        return Obstacle(
            "port-in-use",
            f"Port {port} on {host} is in use: stop the program that holds it "
            f"(`ss -ltnp 'sport = :{port}'` names it), or choose another port {change}.",
        )
    if error.errno == errno.EACCES:
        return Obstacle(
            "port-privileged",
            f"Port {port} is for root only: choose one from 1024 up {change}.",
        )
    return Obstacle(
        "host-unknown",
        f"{host} is no address of this machine ({error.strerror or error}): "
        f"choose one with `{host_flag} 127.0.0.1`, or `{host_flag} 0.0.0.0` for all of them.",
    )


def _rebuild(facts: Facts) -> str:
    version = "{}.{}.{}".format(*facts.python)
    return (
        "build it again with `--enable-shared` "
        f"(pyenv: `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {version}`), "
        "or choose another Python with `make run PYTHON=/usr/bin/python3`"
    )


def _is_apt(facts: Facts) -> bool:
    return not {"debian", "ubuntu"}.isdisjoint((facts.distribution, *facts.distribution_like))


def _apt_install(facts: Facts, packages: Sequence[str]) -> str:
    return ("" if facts.is_root else "sudo ") + " ".join(("apt-get install", *packages))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _libc() -> tuple[str, str]:
    try:
        # platform.libc_ver() reads the Python binary, which on musl says nothing.
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
    """Where the library lies; another build's of the same version would break its compiled modules."""
    name = "libpython{}.{}.so.1.0".format(*sys.version_info[:2])
    folders = [sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix, "lib"))]
    if sys.base_prefix == "/usr":
        # The system's own Python: the library comes in a package of its own, into the loader's directories.
        folders += [f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or 'x86_64-linux-gnu'}", "/usr/lib64"]
    for folder in folders:
        if folder and Path(folder, name).exists():
            return str(Path(folder, name))
    return None


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists already."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def main(arguments: Sequence[str]) -> int:
    """For `scripts/setup`: one line an obstacle, `code|apt packages|sentence`; 1 where there is any."""
    found = obstacles(gather(Path(arguments[0] if arguments else ".")), context="install")
    for obstacle in found:
        sys.stdout.write("{}|{}|{}\n".format(obstacle.code, " ".join(obstacle.packages), obstacle.sentence))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
