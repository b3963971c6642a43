# SPDX-License-Identifier: Apache-2.0
"""The GPU, its driver and this PyTorch, and why the kit cannot use them. As a command it prints the facts as JSON.

It runs in a process of its own, so that the command itself never opens the GPU.
"""

import json
import os
import platform
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import Any

GIB = 1024**3
# The parts with the demo checkpoint, and CUDA itself.
LEAST_GIB = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What PyTorch says of this machine. Without a usable GPU, `error` says why."""

    python: str
    torch: str = ""  # its version; empty: not installed
    cuda: str = ""  # the version it was built for; empty: none
    gpu: str = ""
    capability: str = ""  # such as 9.0
    total_gib: float = 0.0
    free_gib: float = 0.0
    error: str = ""

    def describe(self) -> str:
        gpu = f"{self.gpu} with {self.total_gib:.0f} GiB, CUDA {self.cuda}; " if self.gpu else ""
        return f"{gpu}Python {self.python}, torch {self.torch}"


def examine(*, needs_gpu: bool) -> Machine:
    """Ask another Python process, because a process that used the GPU cannot be forked."""
    command = [sys.executable, "-m", "benchmarks.gpu_kit.machine_check", *(["--gpu"] if needs_gpu else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return Machine(**json.loads(lines[-1]))
    reason = (done.stderr.splitlines() or [f"it ended with status {done.returncode}"])[-1]
    return Machine(python=platform.python_version(), error=f"PyTorch of {sys.executable} does not start: {reason}")


def facts(*, needs_gpu: bool) -> Machine:
    known: dict[str, Any] = {"python": platform.python_version()}
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        reason = f"{sys.executable} has no PyTorch; name a Python that has it with PYTHON=..."
        return Machine(**known, error=reason)
    known |= {"torch": str(torch.__version__), "cuda": torch.version.cuda or ""}
    if not needs_gpu:
        return Machine(**known)
    if not torch.version.cuda:
        hint = "install PyTorch for CUDA, or measure tiny networks on the CPU with --tiny"
        return Machine(**known, error=f"This PyTorch ({torch.__version__}) is built without CUDA; {hint}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says the same
            torch.cuda.init()  # type: ignore[no-untyped-call]
            properties = torch.cuda.get_device_properties(0)
            major, minor = torch.cuda.get_device_capability(0)
            known |= {"gpu": properties.name, "capability": f"{major}.{minor}"}
            if error_text := unsupported(properties.name, (major, minor), torch.cuda.get_arch_list()):
                return Machine(**known, error=error_text)
            free, total = torch.cuda.mem_get_info(0)
            torch.ones(8, device="cuda").sum().item()
    except (RuntimeError, AssertionError) as error:  # too old a driver, no GPU, a GPU that is not supported
        return Machine(**known, error=f"PyTorch cannot use a GPU here: {first_sentence(str(error))}")
    known |= {"total_gib": total / GIB, "free_gib": free / GIB}
    if free / GIB < LEAST_GIB:
        text = f"{properties.name} has {free / GIB:.1f} GiB of free memory; the smallest part needs {LEAST_GIB:g} GiB."
        return Machine(**known, error=text)
    return Machine(**known)


def unsupported(name: str, capability: tuple[int, int], built_for: list[str]) -> str:
    """Why this PyTorch has no code for a GPU; empty if it has. `built_for` is such as ["sm_80", "sm_90"]."""
    numbers = sorted(int("".join(filter(str.isdigit, each))) for each in built_for if each.startswith("sm_"))
    if not numbers or 10 * capability[0] + capability[1] >= numbers[0]:
        return ""
    oldest = f"{numbers[0] // 10}.{numbers[0] % 10}"
    return (
        f"{name} has compute capability {capability[0]}.{capability[1]}; this PyTorch needs {oldest} or newer. "
        "Install a PyTorch that was built for it."
    )


def first_sentence(text: str) -> str:
    line = (text.strip().splitlines() or ["unknown error"])[0]
    return line if line.endswith(".") else f"{line}."


if __name__ == "__main__":
    print(json.dumps(asdict(facts(needs_gpu="--gpu" in sys.argv))))  # noqa: T201
