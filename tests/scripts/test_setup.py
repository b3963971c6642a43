# SPDX-License-Identifier: Apache-2.0
"""`scripts/setup` installs what is missing, once, and says why an installation failed."""

import os
import signal
import subprocess

import pytest

from support.bare_machine import Machine


def test_setup_installs_once(machine: Machine) -> None:
    machine.has("python3")
    first = machine.setup()
    assert first.returncode == 0, first.stderr
    assert machine.calls("pip install")[0].endswith("-c constraints.txt -e .[embedded]")
    second = machine.setup()
    assert (second.returncode, second.stderr) == (0, "")
    assert len(machine.calls("pip install")) == 1
    assert len(machine.calls("-m venv")) == 1


def extras_of(machine: Machine) -> list[str]:
    """The extras of each installation, in order."""
    return [call.split()[-1].removeprefix(".[").removesuffix("]") for call in machine.calls("-e .")]


def test_extras_add_up_so_that_no_task_undoes_another(machine: Machine) -> None:
    machine.has("python3")
    for extras in ("embedded", "embedded,dev", "embedded", "cluster", "cluster,embedded,dev", "dev"):
        assert machine.setup(extras).returncode == 0
    assert extras_of(machine) == ["embedded", "dev,embedded", "cluster,dev,embedded"]


def test_extras_stay_when_the_requirements_change(machine: Machine) -> None:
    machine.has("python3")
    machine.setup("embedded,cluster")
    with (machine.clone / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    machine.setup("embedded")
    assert extras_of(machine) == ["cluster,embedded", "cluster,embedded"]


def test_an_interrupted_installation_keeps_the_extras_it_found(machine: Machine) -> None:
    machine.has("python3")
    machine.setup("embedded,cluster")
    assert machine.setup("dev", PIP_STATUS="1").returncode == 1
    assert machine.setup("embedded").returncode == 0
    assert extras_of(machine) == ["cluster,embedded", "cluster,dev,embedded", "cluster,dev,embedded"]


def test_a_new_environment_has_the_requested_extras_only(machine: Machine) -> None:
    machine.has("python3")
    machine.setup("embedded,dev")
    (machine.clone / ".venv" / "bin" / "python").unlink()
    machine.setup("embedded")
    assert extras_of(machine) == ["dev,embedded", "embedded"]


def test_a_stamp_in_another_order_is_read(machine: Machine) -> None:
    machine.has("python3")
    machine.setup("embedded,dev")
    stamp = machine.clone / ".venv" / ".installed"
    stamp.write_text(stamp.read_text(encoding="utf-8").replace("dev,embedded", "embedded,dev"), encoding="utf-8")
    assert machine.setup("embedded").returncode == 0
    assert extras_of(machine) == ["dev,embedded"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(machine: Machine, name: str) -> None:
    machine.has("python3")
    machine.setup()
    with (machine.clone / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert machine.setup().returncode == 0
    assert len(machine.calls("pip install")) == 2
    assert len(machine.calls("-m venv")) == 1


def test_a_moved_clone_gets_a_new_environment(machine: Machine) -> None:
    machine.has("python3")
    machine.setup()
    machine.clone = machine.clone.rename(machine.clone.with_name("moved clone"))
    assert machine.setup().returncode == 0
    assert len(machine.calls("-m venv")) == 2
    assert len(machine.calls("pip install")) == 2


def test_an_interrupted_installation_is_resumed(machine: Machine) -> None:
    machine.has("python3")
    assert machine.setup(PIP_STATUS="1").returncode == 1
    second = machine.setup()
    assert second.returncode == 0
    assert "Continuing an interrupted installation.\n" in second.stderr
    assert len(machine.calls("pip install")) == 2
    assert len(machine.calls("-m venv")) == 1
    assert machine.setup().stderr == ""


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "WARNING: Retrying after HTTPSConnectionPool(host='index.example', port=443): Temporary failure in name "
            "resolution\nERROR: Could not find a version that satisfies the requirement numpy",
            "the network does not reach index.example",
        ),
        ("SSLError: [SSL: CERTIFICATE_VERIFY_FAILED]\nERROR: No matching distribution found", "SSL_CERT_FILE"),
        ("Collecting numpy\nERROR: numpy is not what it was\nhint: a wall", "ERROR: numpy is not what it was."),
        (
            "error: subprocess-exited-with-error\n  ERROR: No hatchling\n  [end of output]",
            "failed: ERROR: No hatchling.",
        ),
    ],
)
def test_a_failed_installation_ends_with_one_sentence_that_names_the_cause(
    machine: Machine, output: str, sentence: str
) -> None:
    machine.has("python3")
    done = machine.setup(PIP_STATUS="1", PIP_OUTPUT=output)
    assert done.returncode == 1
    announced, failed = done.stderr.splitlines()
    assert announced.startswith("Installing fastapi-triton[embedded]")
    assert failed.startswith("The installation failed: ")
    assert sentence in failed
    assert "the same command again" in failed
    assert output in (machine.clone / ".venv" / "install.log").read_text(encoding="utf-8")


def test_ctrl_c_ends_the_installation_with_one_sentence(machine: Machine) -> None:
    machine.has("python3")
    pipe = machine.clone.parent / "pipe"
    os.mkfifo(pipe)
    with (
        subprocess.Popen(
            [str(machine.clone / "scripts" / "setup")],
            env={**machine.environment, "PIP_READS": str(pipe)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as setup,
        pipe.open("w"),
    ):  # waits for pip to read
        os.killpg(setup.pid, signal.SIGINT)  # as a terminal does
        _, said = setup.communicate(timeout=60)
    assert setup.returncode == 130
    assert said.splitlines()[1:] == ["Interrupted. The same command continues the installation."]
    assert "Continuing an interrupted installation.\n" in machine.setup().stderr


def test_an_incomplete_environment_is_recreated(machine: Machine) -> None:
    machine.has("python3")
    assert machine.setup(INTERRUPT_VENV="yes").returncode == 130
    assert machine.setup().returncode == 0
    assert len(machine.calls("-m venv")) == 2


def test_an_environment_without_its_python_is_recreated(machine: Machine) -> None:
    machine.has("python3")
    machine.setup()
    (machine.clone / ".venv" / "bin" / "python").unlink()
    assert machine.setup().returncode == 0
    assert len(machine.calls("-m venv")) == 2
