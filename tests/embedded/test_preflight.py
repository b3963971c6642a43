# SPDX-License-Identifier: Apache-2.0
"""On a machine that cannot run the embedded Triton, the obstacles have the reason and a command that fixes it."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastapi_triton.embedded import preflight
from fastapi_triton.embedded.preflight import Context, Facts, Obstacle, gather, obstacles, port_obstacle

DEBIAN_12 = Facts(
    system="Linux",
    machine="x86_64",
    libc="glibc",
    libc_version="2.36",
    implementation="CPython",
    python=(3, 11, 2),
    is_system_python=True,
    has_venv=True,
    libpython="/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
    distribution="debian",
    distribution_like=(),
    codename="bookworm",
    runs_foreign_programs=True,
    is_root=False,
    has_sudo=True,
    torch_build="cpu",
    folder="/home/ada/fastapi triton",
    free_bytes=50 * preflight.GB,
)
UBUNTU_24 = DEBIAN_12._replace(
    libc_version="2.39",
    python=(3, 12, 3),
    libpython="/usr/lib/x86_64-linux-gnu/libpython3.12.so.1.0",
    distribution="ubuntu",
    distribution_like=("debian",),
    codename="noble",
)
FEDORA = DEBIAN_12._replace(distribution="fedora", codename="")
PYENV = DEBIAN_12._replace(python=(3, 11, 7), is_system_python=False, libpython=None)


def only(facts: Facts, context: Context = "install") -> Obstacle:
    (found,) = obstacles(facts, context=context)
    return found


@pytest.mark.parametrize("facts", [DEBIAN_12, UBUNTU_24, FEDORA])
@pytest.mark.parametrize("context", ["install", "embedded"])
def test_a_complete_linux_has_no_obstacle(facts: Facts, context: Context) -> None:
    assert obstacles(facts, context=context) == []


@pytest.mark.parametrize("context", ["install", "embedded"])
@pytest.mark.parametrize(
    ("facts", "code", "value"),
    [
        (DEBIAN_12._replace(system="Darwin", machine="arm64", libc="", libc_version=""), "system", "macOS"),
        (
            DEBIAN_12._replace(system="Windows", machine="AMD64", libc="", libc_version=""),
            "system",
            "Windows",
        ),
        (DEBIAN_12._replace(machine="aarch64"), "machine", "aarch64"),
        (DEBIAN_12._replace(libc="musl", libc_version="1.2.5"), "libc", "musl"),
        (DEBIAN_12._replace(libc="", libc_version=""), "libc", "not glibc"),
        (DEBIAN_12._replace(libc_version="2.31", codename="bullseye"), "glibc", "2.31"),
        (DEBIAN_12._replace(libc_version="2.4"), "glibc", "2.4"),
    ],
)
def test_on_an_unsupported_platform_the_advice_is_to_run_triton_on_another_machine(
    facts: Facts, code: str, value: str, context: Context
) -> None:
    found = only(facts, context)
    assert found.code == code
    assert value in found.sentence
    assert "`fastapi-triton serve --triton http://TRITON-HOST:8000`" in found.sentence
    assert found.packages == ()


def test_glibc_2_35_is_new_enough() -> None:
    assert obstacles(DEBIAN_12._replace(libc_version="2.35")) == []


def test_an_unsupported_platform_is_the_only_obstacle() -> None:
    broken = DEBIAN_12._replace(machine="arm64", python=(3, 8, 1), has_venv=False, libpython=None, free_bytes=0)
    assert [found.code for found in obstacles(broken, context="install")] == ["machine"]


def of(distribution: str, codename: str, libc: str, python: tuple[int, int], *like: str) -> Facts:
    """A distribution's own Python, complete; for a user who has sudo."""
    return DEBIAN_12._replace(
        distribution=distribution,
        codename=codename,
        libc_version=libc,
        python=(*python, 4),
        distribution_like=like,
    )


UV = "Run `make run` without PYTHON: it finds one, or downloads Python 3.12 with uv."
FINE = ""
GLIBC = "Run Triton on such a machine"


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (of("debian", "bullseye", "2.31", (3, 9)), GLIBC),
        (of("debian", "bookworm", "2.36", (3, 11)), FINE),
        (of("debian", "trixie", "2.41", (3, 13)), UV),
        (of("ubuntu", "focal", "2.31", (3, 8), "debian"), GLIBC),
        (
            of("ubuntu", "jammy", "2.35", (3, 10), "debian"),
            "Install it with `sudo apt-get install python3.11 python3.11-venv libpython3.11`, then run "
            "`make run PYTHON=python3.11`.",
        ),
        (of("ubuntu", "noble", "2.39", (3, 12), "debian"), FINE),
        (of("ubuntu", "resolute", "2.43", (3, 14), "debian"), UV),
        (
            of("linuxmint", "jammy", "2.35", (3, 10), "ubuntu", "debian"),
            "Install it with `sudo apt-get install python3.11 python3.11-venv libpython3.11`",
        ),
        (of("linuxmint", "noble", "2.39", (3, 12), "ubuntu", "debian"), FINE),
        (of("fedora", "", "2.41", (3, 13)), "Install it with `sudo dnf install python3.12`, then run"),
        (of("fedora", "", "2.42", (3, 14)), "`make run PYTHON=python3.12`."),
        (of("almalinux", "", "2.34", (3, 9), "rhel", "centos", "fedora"), GLIBC),
        (of("almalinux", "", "2.39", (3, 12), "rhel", "centos", "fedora"), FINE),
        (of("rhel", "", "2.39", (3, 12), "fedora"), FINE),
        (of("arch", "", "2.42", (3, 14)), UV),
        (of("opensuse-tumbleweed", "", "2.42", (3, 13), "opensuse", "suse"), UV),
        (of("opensuse-leap", "", "2.38", (3, 6), "suse", "opensuse"), UV),
        (of("alpine", "", "", (3, 12))._replace(libc="musl"), "The C library is musl, as on Alpine."),
        (of("nixos", "", "2.40", (3, 12))._replace(runs_foreign_programs=False), "`programs.nix-ld.enable = true;`"),
        (of("nixos", "", "2.40", (3, 12)), FINE),
    ],
)
def test_the_default_python_of_each_distribution(facts: Facts, advice: str) -> None:
    found = obstacles(facts, context="install")
    assert len(found) == (1 if advice else 0)
    assert all(advice in obstacle.sentence for obstacle in found)


@pytest.mark.parametrize(
    ("facts", "code", "value"),
    [
        (DEBIAN_12._replace(python=(3, 10, 12)), "python-too-old", "Python 3.10.12 is too old"),
        (DEBIAN_12._replace(python=(3, 13, 0)), "python-too-new", "Python 3.13.0 is too new"),
        (DEBIAN_12._replace(implementation="PyPy"), "python-implementation", "PyPy"),
    ],
)
def test_an_unsupported_python_is_reported_with_the_commands_for_another(facts: Facts, code: str, value: str) -> None:
    found = only(facts)
    assert found.code == code
    assert value in found.sentence
    assert "`sudo apt-get install python3.11 python3.11-venv libpython3.11`" in found.sentence
    assert "`make run PYTHON=python3.11`" in found.sentence
    assert found.packages == ("python3.11", "python3.11-venv", "libpython3.11")


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"is_root": True}, "`apt-get install python3.12 python3.12-venv libpython3.12`"),
        ({"has_sudo": False}, "`su -c 'apt-get install python3.12 python3.12-venv libpython3.12'`"),
    ],
)
def test_without_sudo_the_command_works_too(changes: dict[str, Any], command: str) -> None:
    assert command in only(UBUNTU_24._replace(python=(3, 13, 1), **changes)).sentence


def test_debian_without_venv_needs_it_to_download_another_python() -> None:
    found = only(DEBIAN_12._replace(codename="trixie", python=(3, 13, 5), has_venv=False))
    assert found.sentence.endswith(
        "Run `sudo apt-get install python3-venv`, then `make run`, which downloads Python 3.12 with uv."
    )
    assert found.packages == ("python3-venv",)


def test_a_full_disk_is_reported_with_the_unsupported_python() -> None:
    found = obstacles(DEBIAN_12._replace(python=(3, 13, 5), free_bytes=0), context="install")
    assert [obstacle.code for obstacle in found] == ["python-too-new", "disk"]


@pytest.mark.parametrize("python", [(3, 11, 0), (3, 12, 99)])
def test_supported_pythons_are_no_obstacle(python: tuple[int, int, int]) -> None:
    assert obstacles(DEBIAN_12._replace(python=python), context="install") == []


def test_debian_users_get_the_apt_command_for_venv() -> None:
    found = only(DEBIAN_12._replace(has_venv=False))
    assert (found.code, found.packages) == ("venv", ("python3.11-venv",))
    assert "`sudo apt-get install python3.11-venv`" in found.sentence


def test_venv_is_needed_only_to_install() -> None:
    assert obstacles(DEBIAN_12._replace(has_venv=False), context="embedded") == []


def test_users_of_other_distributions_get_no_apt_command_for_venv() -> None:
    found = only(FEDORA._replace(has_venv=False))
    assert found.code == "venv"
    assert "apt-get" not in found.sentence
    assert "`make run PYTHON=python3.12`" in found.sentence


@pytest.mark.parametrize("context", ["install", "embedded"])
def test_ubuntu_users_get_the_apt_command_for_libpython(context: Context) -> None:
    found = only(UBUNTU_24._replace(libpython=None), context)
    assert (found.code, found.packages) == ("libpython", ("libpython3.12",))
    assert "`sudo apt-get install libpython3.12`" in found.sentence


def test_one_apt_command_installs_all_missing_packages() -> None:
    found = obstacles(DEBIAN_12._replace(has_venv=False, libpython=None), context="install")
    assert [obstacle.code for obstacle in found] == ["venv", "libpython"]
    for obstacle in found:
        assert "`sudo apt-get install python3.11-venv libpython3.11`" in obstacle.sentence


def test_for_a_pyenv_python_without_libpython_the_advice_is_to_rebuild_it() -> None:
    found = only(PYENV)
    assert (found.code, found.packages) == ("libpython", ())
    assert "`PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force 3.11.7`" in found.sentence
    assert "`make run PYTHON=/usr/bin/python3`" in found.sentence


def test_a_full_disk_is_reported_with_free_and_needed_space() -> None:
    found = only(DEBIAN_12._replace(free_bytes=2_900_000_000))
    assert found.code == "disk"
    assert "2.9 GB free; 3.0 GB are needed" in found.sentence
    assert "`df -h '/home/ada/fastapi triton'`" in found.sentence


def test_the_build_for_cuda_needs_more_disk_space() -> None:
    found = only(DEBIAN_12._replace(free_bytes=12_900_000_000, torch_build="cuda"))
    assert "12.9 GB free; 13.0 GB are needed" in found.sentence
    assert obstacles(DEBIAN_12._replace(free_bytes=12_900_000_000, torch_build="cuda"), context="embedded") == []


def test_running_needs_less_disk_space_than_installing() -> None:
    assert obstacles(DEBIAN_12._replace(free_bytes=preflight.EMBEDDED_BYTES)) == []
    found = only(DEBIAN_12._replace(free_bytes=preflight.EMBEDDED_BYTES - 1), "embedded")
    assert found.code == "disk"
    assert "`TMPDIR=/var/tmp make run`" in found.sentence


def test_gather_finds_the_libpython_of_the_running_python(tmp_path: Path) -> None:
    facts = gather(tmp_path / "not" / "there yet")
    assert facts.python == sys.version_info[:3]
    assert facts.system == "Linux"
    assert facts.libc == "glibc"
    assert facts.libc_version == os.confstr("CS_GNU_LIBC_VERSION").removeprefix("glibc ")  # type: ignore[union-attr]
    assert facts.free_bytes > 0
    assert facts.libpython is not None
    # Loading it shows that it is a library of this Python.
    script = (
        "import ctypes, sys; version = ctypes.CDLL(sys.argv[1]).Py_GetVersion;"
        "version.restype = ctypes.c_char_p; print(version().decode() == sys.version)"
    )
    done = subprocess.run([sys.executable, "-c", script, facts.libpython], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_libpython_of_another_build_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(preflight.sysconfig, "get_config_var", lambda _: None)
    assert gather(tmp_path).libpython is None
    library = tmp_path / "lib" / "libpython{}.{}.so.1.0".format(*sys.version_info[:2])
    library.parent.mkdir()
    library.touch()
    assert gather(tmp_path).libpython == str(library)


def test_the_script_prints_one_line_per_obstacle(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", preflight.__file__, str(tmp_path)], capture_output=True, text=True, check=False
    )
    codes = [line.split("|")[0] for line in done.stdout.splitlines()]
    assert codes == [obstacle.code for obstacle in obstacles(gather(tmp_path), context="install")]
    assert done.returncode == (1 if codes else 0)
    assert done.stderr == ""


def test_the_script_checks_the_disk_for_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = preflight.INSTALL_BYTES["cuda"] - 1
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(preflight, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(preflight, "_python_obstacle", lambda _: None)  # on any Python
    assert [preflight.main([str(tmp_path), *build]) for build in ([], ["cpu"], ["cuda"])] == [0, 0, 1]


@pytest.mark.parametrize(
    ("smi", "has_gpu"),
    [
        (None, False),
        ("#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-1)'\n", True),
        ("#!/bin/sh\necho 'No devices were found'\n", False),
        ("#!/bin/sh\necho 'GPU 0' && exit 9\n", False),
        ("not a program", False),
    ],
)
def test_a_gpu_without_device_files_is_found_with_nvidia_smi(
    smi: str | None, has_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(preflight, "DEVICES", str(tmp_path / "dev"))
    if smi is not None:
        (tmp_path / "nvidia-smi").write_text(smi, encoding="utf-8")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert preflight.has_nvidia_gpu() is has_gpu
    assert preflight.main(["gpu"]) == (0 if has_gpu else 1)


def test_a_gpu_is_found_by_its_device_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(preflight, "DEVICES", str(tmp_path))
    (tmp_path / "dxg").touch()  # WSL has it with any GPU
    assert not preflight.has_nvidia_gpu()
    (tmp_path / "nvidia0").touch()
    assert preflight.has_nvidia_gpu()


def test_the_module_is_valid_python_3_8() -> None:
    ast.parse(Path(preflight.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_free_port_is_no_obstacle() -> None:
    assert port_obstacle("127.0.0.1", 0) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_error_for_a_port_in_use_names_another_port_and_the_flag(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = port_obstacle(host, port)
    assert found is not None
    assert found.code == "port-in-use"
    assert f"`ss -ltnp 'sport = :{port}'`" in found.sentence
    assert f"`--port {port + 1}`" in found.sentence
    assert f"`make run PORT={port + 1}`" in found.sentence


def test_a_port_with_a_connection_in_time_wait_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first keeps TIME_WAIT
            assert client.recv(1) == b""
    assert port_obstacle("127.0.0.1", port) is None


def test_the_error_for_a_privileged_port_names_an_unprivileged_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(preflight.socket, "socket", Forbidden)
    found = port_obstacle("127.0.0.1", 80, flag="--web-port")
    assert found is not None
    assert found.code == "port-privileged"
    assert "`--web-port 8080`" in found.sentence


def test_the_error_for_an_address_of_another_machine_names_the_flag() -> None:
    found = port_obstacle("192.0.2.1", 8080)
    assert found is not None
    assert found.code == "host-unknown"
    assert "`--host 127.0.0.1`" in found.sentence


@pytest.mark.parametrize("port", [-1, 65536])
def test_the_error_for_an_invalid_port_names_a_valid_one(port: int) -> None:
    found = port_obstacle("127.0.0.1", port)
    assert found is not None
    assert found.code == "port-invalid"
    assert "`--port 8080`" in found.sentence
