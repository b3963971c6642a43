# SPDX-License-Identifier: Apache-2.0
"""The parts of the embedded Triton that work without starting it."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest

from fastapi_triton.embedded import preflight, triton_process
from fastapi_triton.embedded.installation import EmbeddedTritonError, Installation, make_work_folder
from fastapi_triton.embedded.triton_log import TritonLog
from fastapi_triton.embedded.triton_process import EmbeddedTriton, Ports


@pytest.mark.parametrize(
    ("line", "logger", "level", "text"),
    [
        (
            'I1122 10:42:33.123456 4711 model_lifecycle.cc:472] "loading: m:1"',
            "triton",
            logging.INFO,
            "loading: m:1 (model_lifecycle.cc:472)",
        ),
        ('E1122 10:42:33.123456 4711 server.cc:241] "oh no"', "triton", logging.ERROR, "oh no (server.cc:241)"),
        ("output of a model", "triton", logging.INFO, "output of a model"),
        ("| Model | Version | Status |", "triton", logging.DEBUG, "| Model | Version | Status |"),
    ],
)
def test_tritons_log_lines_keep_their_level(
    line: str, logger: str, level: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        TritonLog(has_gpu=False, on_loaded=str, on_started=lambda: None).take(line)
    assert caplog.record_tuples == [(logger, level, text)]


# Triton 2.51 on a machine without a GPU.
WITHOUT_GPU = """
W1128 20:23:29.542000 11408 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory pool \
will not be available: CUDA driver version is insufficient for CUDA runtime version"
I1128 20:23:29.542100 11408 cuda_memory_manager.cc:117] "CUDA memory pool disabled"
E1128 20:23:29.548000 11408 server.cc:241] "CudaDriverHelper has not been initialized."
""".strip().splitlines()


@pytest.mark.parametrize(
    ("has_gpu", "levels", "reason"),
    [
        (False, [logging.DEBUG] * 3, ""),
        (True, [logging.WARNING, logging.INFO, logging.ERROR], "CudaDriverHelper has not been initialized."),
    ],
)
def test_a_missing_cuda_driver_is_a_problem_only_on_a_machine_with_a_gpu(
    has_gpu: bool, levels: list[int], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = TritonLog(has_gpu=has_gpu, on_loaded=str, on_started=lambda: None)
    with caplog.at_level(logging.DEBUG):
        for line in WITHOUT_GPU:
            log.take(line)
    assert [record.levelno for record in caplog.records] == levels
    assert log.reason == reason


@pytest.mark.parametrize(
    "text", ["CUDA out of memory", "failed to load 'm' version 1: no CUDA device", "unable to pin"]
)
def test_other_errors_about_cuda_stay_errors_without_a_gpu(text: str, caplog: pytest.LogCaptureFixture) -> None:
    TritonLog(has_gpu=False, on_loaded=str, on_started=lambda: None).take(
        f'E1128 20:23:29.5 11408 model.cc:2] "{text}"'
    )
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_ports_are_free_and_different() -> None:
    ports = Ports.free()
    assert len({ports.http, ports.metrics, ports.grpc}) == 3
    assert preflight.port_obstacle("127.0.0.1", ports.http) is None


def test_the_error_for_a_missing_model_repository_has_its_path(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedTritonError, match=r"no model repository at .*/nope"):
        EmbeddedTriton.prepare(tmp_path / "nope")


def test_the_error_for_a_missing_wheel_has_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedTritonError, match=r"pip install 'fastapi-triton\[embedded\]'"):
        Installation.find()


def test_prepare_fails_with_the_reason_on_an_unsupported_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = preflight.gather(tmp_path)
    unsupported: Any = facts._replace(system="Darwin", machine="arm64")
    monkeypatch.setattr(preflight, "gather", lambda folder: unsupported)
    with pytest.raises(EmbeddedTritonError) as raised:
        EmbeddedTriton.prepare(tmp_path)
    assert "macOS" in str(raised.value)


def test_the_work_folder_has_no_space_in_its_path_and_links_to_models_and_backend(tmp_path: Path) -> None:
    models = tmp_path / "my models"
    models.mkdir()
    backends = tmp_path / "a wheel" / "backends" / "python"
    backends.mkdir(parents=True)
    (backends / "libtriton_python.so").touch()
    stub = tmp_path / "a wheel" / "triton_python_backend_stub"
    stub.touch()
    installation = Installation(tmp_path / "bin", backends.parent, stub, tmp_path / "lib")
    folder = make_work_folder(installation, models)
    try:
        assert " " not in str(folder)
        assert (folder / "models").resolve() == models.resolve()
        assert {path.name for path in (folder / "backends" / "python").iterdir()} == {
            "libtriton_python.so",
            "triton_python_backend_stub",
        }
    finally:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
        folder.rmdir()


@pytest.mark.parametrize(
    ("free", "expected"), [(24 * 1024**3, 32 * 1024**2), (1024**3, 16 * 1024**2), (64 * 1024**2, 1024**2), (0, 1024**2)]
)
def test_the_initial_shared_memory_of_an_instance_depends_on_free_memory(free: int, expected: int) -> None:
    assert triton_process.shared_bytes(free) == expected
