# SPDX-License-Identifier: Apache-2.0
"""`scripts/setup` and the Makefile, in a folder with a space, with stubs for Python, apt-get and id on the PATH."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.paths import ROOT

TOOLS = (
    "awk",
    "basename",
    "bash",
    "cat",
    "cksum",
    "cp",
    "cut",
    "dirname",
    "flock",
    "grep",
    "make",
    "mkdir",
    "paste",
    "rm",
    "sed",
    "sh",
    "sort",
    "tr",
)

# Behaves like a Python whose obstacles are in a file, so that the stub of apt-get can remove them.
FAKE_PYTHON = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
name="$(basename "$0")"
case "$*" in
  "-I src/fastapi_triton/embedded/preflight.py .")
    [ ! -s "$OBSTACLES/$name" ] || { cat "$OBSTACLES/$name"; exit 1; } ;;
  "-m venv .venv")
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    [ -z "$INTERRUPT_VENV" ] || exit 130
    echo "VIRTUAL_ENV=\\"$PWD/.venv\\"" > .venv/bin/activate ;;
  "-m pip install"*) exit "${PIP_STATUS:-0}" ;;
  *"version_info"*) echo "${VERSION:-3.11.2}" ;;
esac
exit 0
"""
FAKE_APT = """#!/bin/bash
echo "apt-get $*" >> "$CALLS"
for each; do
  case "$each" in
    python3) cp "$FAKE_PYTHON" "$BIN/python3"; echo "libpython|libpython3.11|no library" > "$OBSTACLES/python3" ;;
    libpython3.11) : > "$OBSTACLES/python3" ;;
    python3.11) cp "$FAKE_PYTHON" "$BIN/python3.11" ;;
  esac
done
"""


@dataclass
class Machine:
    """A clone, and a PATH with stub commands."""

    clone: Path
    bin: Path
    obstacles: Path
    calls_file: Path
    environment: dict[str, str] = field(default_factory=dict)

    def has(self, name: str, text: str = FAKE_PYTHON) -> None:
        (self.bin / name).write_text(text, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def stands_in_the_way(self, python: str, *lines: str) -> None:
        (self.obstacles / python).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def setup(self, extras: str = "embedded", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.clone / "scripts" / "setup"), extras],
            env={**self.environment, **more},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self, of: str) -> list[str]:
        """The calls so far that contain this text."""
        text = self.calls_file.read_text(encoding="utf-8") if self.calls_file.exists() else ""
        return [line for line in text.splitlines() if of in line]


def clone_to(folder: Path) -> Path:
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "scripts/setup",
        "src/fastapi_triton/embedded/preflight.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with the usual tools of Linux, but without Python."""
    found = Machine(clone_to(tmp_path / "a clone"), tmp_path / "bin", tmp_path / "obstacles", tmp_path / "calls")
    found.bin.mkdir()
    found.obstacles.mkdir()
    for tool in TOOLS:
        (found.bin / tool).symlink_to(str(shutil.which(tool)))
    found.has("id", '#!/bin/sh\necho "${FAKE_UID:-1000}"\n')
    template = tmp_path / "python-template"
    template.write_text(FAKE_PYTHON, encoding="utf-8")
    template.chmod(0o755)
    found.environment = {
        "PATH": str(found.bin),
        "BIN": str(found.bin),
        "CALLS": str(found.calls_file),
        "OBSTACLES": str(found.obstacles),
        "FAKE_PYTHON": str(template),
        # setup looks for the system Python by its path. The real one of the test machine must not be found.
        "SYSTEM_PYTHON": str(found.bin / "none"),
    }
    return found


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
    return [call.split()[-1].removeprefix(".[").removesuffix("]") for call in machine.calls("pip install")]


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
    assert machine.setup("dev", PIP_STATUS="130").returncode == 130
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
    assert machine.setup(PIP_STATUS="130").returncode == 130
    assert machine.setup().returncode == 0
    assert len(machine.calls("pip install")) == 2
    assert len(machine.calls("-m venv")) == 1


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


def test_a_python_without_obstacles_is_preferred(machine: Machine) -> None:
    for name in ("python3", "python3.11", "python3.12"):
        machine.has(name)
    machine.stands_in_the_way("python3.11", "libpython|libpython3.11|no library")
    assert machine.setup().returncode == 0
    assert machine.calls("-m venv") == ["python3.12 -m venv .venv"]


def test_a_command_that_does_not_start_is_skipped(machine: Machine) -> None:
    machine.has("python3.11", "#!/bin/sh\nexit 127\n")
    machine.has("python3")
    assert machine.setup().returncode == 0
    assert machine.calls("-m venv") == ["python3 -m venv .venv"]


def test_a_chosen_python_replaces_another(machine: Machine) -> None:
    machine.has("python3.11")
    machine.has("python3.12", FAKE_PYTHON.replace("3.11.2", "3.12.3"))
    machine.setup()
    assert machine.setup(PYTHON="python3.12").returncode == 0
    assert machine.setup(PYTHON="python3.12").returncode == 0
    assert machine.calls("-m venv") == ["python3.11 -m venv .venv", "python3.12 -m venv .venv"]


def test_a_chosen_python_that_does_not_start_is_an_error(machine: Machine) -> None:
    machine.has("python3")
    done = machine.setup(PYTHON="python3.99")
    assert done.returncode == 1
    assert "PYTHON=python3.99 does not start" in done.stderr
    assert "`make run PYTHON=python3.11`" in done.stderr


def test_root_on_debian_installs_missing_packages(machine: Machine) -> None:
    machine.has("apt-get", FAKE_APT)
    done = machine.setup(FAKE_UID="0")
    assert done.returncode == 0, done.stderr
    assert machine.calls("apt-get") == [
        "apt-get -qq update",
        "apt-get -qqy install --no-install-recommends python3 python3-venv",
        "apt-get -qqy install --no-install-recommends libpython3.11",
    ]
    assert machine.calls("-m venv") == ["python3 -m venv .venv"]


def test_root_installs_a_newer_python_if_the_default_is_too_old(machine: Machine) -> None:
    machine.has("python3")
    machine.stands_in_the_way("python3", "python-too-old|python3.11 python3.11-venv libpython3.11|too old")
    machine.has("apt-get", FAKE_APT)
    assert machine.setup(FAKE_UID="0").returncode == 0
    assert machine.calls("-m venv") == ["python3.11 -m venv .venv"]


def test_other_users_get_the_command_and_nothing_is_installed(machine: Machine) -> None:
    machine.has("apt-get", FAKE_APT)
    done = machine.setup()
    assert done.returncode == 1
    assert "Python is not installed" in done.stderr
    assert "`sudo apt-get install python3-venv libpython3-dev`" in done.stderr
    machine.has("python3")
    machine.stands_in_the_way("python3", "venv|python3.11-venv|Install it with `sudo apt-get install python3.11-venv`.")
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr == "Install it with `sudo apt-get install python3.11-venv`.\n"
    assert machine.calls("apt-get") == []
    assert not (machine.clone / ".venv").exists()


def test_root_gets_an_error_that_apt_cannot_fix(machine: Machine) -> None:
    machine.has("python3")
    machine.has("apt-get", FAKE_APT)
    machine.stands_in_the_way("python3", "machine||This processor is aarch64.")
    done = machine.setup(FAKE_UID="0")
    assert (done.returncode, done.stderr) == (1, "This processor is aarch64.\n")
    assert machine.calls("apt-get") == []


def test_a_python_that_cannot_run_the_check_is_too_old(machine: Machine) -> None:
    machine.has("python3", '#!/bin/sh\n[ "$1" = -c ] && exit 0\necho SyntaxError >&2\nexit 1\n')
    done = machine.setup()
    assert done.returncode == 1
    assert re.fullmatch(r"python3 is too old; .*`make run PYTHON=python3\.12`\.\n", done.stderr)


# --- the task list ---


def test_make_alone_lists_every_task() -> None:
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert re.findall(r"^  make ([a-z-]+) ", listed, flags=re.MULTILINE)[: len(rules)] == rules


def test_make_run_starts_the_embedded_triton_on_the_chosen_port(machine: Machine) -> None:
    machine.has("python3")
    subprocess.run(["make", "-s", "run", "PORT=9000"], cwd=machine.clone, env=machine.environment, check=True)
    assert machine.calls("serve") == ["python -m fastapi_triton serve --embedded --port 9000"]


def test_make_uses_the_chosen_python(machine: Machine) -> None:
    machine.has("python3.11")
    machine.has("python3.12")
    command = ["make", "-s", "run", "PYTHON=python3.12"]
    subprocess.run(command, cwd=machine.clone, env=machine.environment, check=True, capture_output=True)
    assert machine.calls("-m venv") == ["python3.12 -m venv .venv"]


def test_task_installs_its_extras_after_any_other_task(machine: Machine) -> None:
    machine.has("python3")
    for task in ("test", "test-cluster"):
        command = ["make", "-s", task]
        subprocess.run(command, cwd=machine.clone, env=machine.environment, check=True, capture_output=True)
    assert "cluster" not in machine.calls("pip install")[0]
    assert "cluster" in machine.calls("pip install")[1]
    assert machine.calls("-m pytest")[1].split("-m ")[2].strip() == "cluster"
