# SPDX-License-Identifier: Apache-2.0
"""The packages that the kit needs beside PyTorch: which are missing, and the wheels that travel with the kit.

Imports nothing but the standard library. As a command it downloads the wheels: `benchmarks/gpu_kit/wheels 3.12`.
"""

import argparse
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT

KIT = Path(__file__).resolve().parent
WHEELS = KIT / ".wheels"
NEEDED = KIT / "packages.txt"
NEEDED_BY_SERVED = KIT / "packages-served.txt"
# pip takes only wheels whose platform it finds in this list, so it names every glibc that wheels are built for.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 24, 26, 27, 28, 31, 34, 35)]
PLATFORMS += ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]


@dataclass(frozen=True, slots=True)
class Package:
    """A package and the oldest version that works; an empty version: any."""

    name: str
    oldest: str

    def obstacle(self) -> str:
        """Why the installed package does not do, such as "numpy 1.20 (1.26 or newer)"; empty if it does."""
        try:
            version = importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return self.name
        if self.oldest and numbers(version) < numbers(self.oldest):
            return f"{self.name} {version} ({self.oldest} or newer)"
        return ""


def packages(file: Path) -> list[Package]:
    lines = [line.strip() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [Package(name, oldest) for name, _, oldest in (line.partition(">=") for line in lines)]


def normal(name: str) -> str:
    """The name as in packages.txt; a wheel's file name has underscores."""
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(file: Path = NEEDED) -> list[str]:
    """The packages that are absent or too old."""
    return [obstacle for package in packages(file) if (obstacle := package.obstacle())]


def names_to_install(*files: Path) -> list[str]:
    """The names of the missing packages, and of those that must have the same version."""
    found = {package.name for file in files for package in packages(file) if package.obstacle()}
    return sorted(found | ({"pydantic-core"} if "pydantic" in found else set()))


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


def install(folder: Path) -> str:
    """Install the wheels of missing packages into a folder. Other packages of this machine depend on its own versions.

    Returns what prevented it in one sentence; empty if nothing did.
    """
    wanted = names_to_install(NEEDED, NEEDED_BY_SERVED)
    wheels = sorted(wheel for wheel in WHEELS.glob("*.whl") if normal(wheel.name.partition("-")[0]) in wanted)
    if not wheels:
        return ""
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), *map(str, wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    reason = ([line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["?"])[-1]
    return f"pip cannot install the wheels in {WHEELS}: {reason.removeprefix('ERROR: ')}"


def download(python: str, *, only: Sequence[str], is_served: bool) -> int:
    """Download the wheels for a Python on Linux x86-64, in the versions of constraints.txt. Returns pip's status.

    Args:
        only: the names of the packages; empty: all.
    """
    wanted = packages(NEEDED) + (packages(NEEDED_BY_SERVED) if is_served else [])
    names = [package.name for package in wanted if not only or package.name in only]
    if unknown := set(only) - set(names):
        print(f"--only names {', '.join(sorted(unknown))}, which the kit does not need.", file=sys.stderr)  # noqa: T201
        return 2
    WHEELS.mkdir(exist_ok=True)
    for old in WHEELS.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--dest", str(WHEELS), *names]
    done = subprocess.run(command, check=False)
    if done.returncode == 0:
        size = sum(wheel.stat().st_size for wheel in WHEELS.glob("*.whl")) / 2**20
        print(f"{len(names)} wheels for Python {python}, {size:.0f} MiB, are in {WHEELS}")  # noqa: T201
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu_kit/wheels", description="Download the kit's wheels.")
    parser.add_argument("python", help="Python version of the GPU machine, such as 3.12")
    parser.add_argument("--only", default="", help="the packages that the GPU machine lacks: diffusers,transformers")
    parser.add_argument("--served", action="store_true", help="also the wheels of the part `served` (70 MB)")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    return download(arguments.python, only=only, is_served=arguments.served)


if __name__ == "__main__":
    sys.exit(main())
