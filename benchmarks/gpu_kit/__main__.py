# SPDX-License-Identifier: Apache-2.0
"""The command: `benchmarks/gpu_kit/run`. Checks the machine, installs the wheels, runs the parts.

Needs nothing but the standard library, and never imports torch: see `part_process`.
"""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import RESULTS, ROOT
from benchmarks.common.machine import commit, cpu_slug, slug
from benchmarks.common.measurement_lock import measurement
from benchmarks.gpu_kit import machine_check, packages
from benchmarks.gpu_kit.part import PARTS, Part
from benchmarks.gpu_kit.part_runner import PartRunner
from benchmarks.gpu_kit.plan import SDXL, TINY
from benchmarks.gpu_kit.results import PartResult, Results

MINUTES = 8.0
DECISIONS = "decisions"  # in --parts, all parts that answer a question
RESULT_BYTES = 20 * 10**6
SITE_BYTES = 500 * 10**6  # the unpacked wheels


def main() -> int:
    arguments = parse_arguments()
    out: Path = arguments.out
    ends_at = time.monotonic() + 60 * arguments.minutes
    if problem := parts_problem(arguments.parts) or folder_problem(out, RESULT_BYTES):
        return refuse(problem)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running part too
    temporary = Path(tempfile.gettempdir())
    if any(packages.WHEELS.glob("*.whl")) and (problem := folder_problem(temporary, SITE_BYTES)):
        return refuse(f"{problem} TMPDIR names another folder.")
    machine = machine_check.examine(needs_gpu=not arguments.tiny)
    if machine.error:
        return refuse(machine.error)
    with tempfile.TemporaryDirectory(prefix="gpu-kit-") as site:
        if problem := install_packages(Path(site)):
            return refuse(problem)
        return measure(arguments, machine, ends_at)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu_kit/run", description="Measure the engine on a GPU.")
    default = Path(os.environ.get("OUT") or RESULTS)
    parser.add_argument("--out", type=Path, default=default, help=f"folder of the results; $OUT, else {RESULTS}")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="the time for everything (%(default)s)")
    parser.add_argument(
        "--parts", default="", help=f"only these, in this order: {','.join(part.name for part in PARTS)}"
    )
    parser.add_argument("--tiny", action="store_true", help="test the kit on a CPU with tiny networks")
    return parser.parse_args()


def parts_problem(names: str) -> str:
    known = [*(part.name for part in PARTS), DECISIONS]
    unknown = [name for name in names.split(",") if name and name not in known]
    return f"--parts names {', '.join(unknown)}; the parts are {', '.join(known)}." if unknown else ""


def folder_problem(folder: Path, needed: int) -> str:
    """Why nothing can be written into a folder; empty if it can. Creates the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"a test")
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}."
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return ""
    return f"The disk of {folder} has {free / 10**6:.0f} MB free; {needed / 10**6:.0f} MB are needed."


def install_packages(site: Path) -> str:
    """Make the wheels importable, here and in later processes. Returns what is missing; empty if nothing is."""
    if problem := packages.install(site):
        return problem
    sys.path.insert(0, str(site))
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    names = packages.missing()
    if not names:
        return ""
    version = ".".join(platform.python_version_tuple()[:2])
    return (
        f"Missing for {sys.executable}: {', '.join(names)}. On a machine with internet, run `benchmarks/gpu_kit/wheels "
        f"{version} --only {','.join(packages.names_to_install(packages.NEEDED))}`, and copy "
        f"{packages.WHEELS.relative_to(ROOT)} to the same place here."
    )


def chosen(names: str) -> Sequence[Part]:
    """The parts that `--parts` names, in its order; without names, all."""
    by_name = {part.name: [part] for part in PARTS} | {DECISIONS: [part for part in PARTS if part.is_decision]}
    return list(dict.fromkeys(part for name in names.split(",") if name for part in by_name[name])) or PARTS


def measure(arguments: argparse.Namespace, machine: machine_check.Machine, ends_at: float) -> int:
    parts = chosen(arguments.parts)
    name = f"gpu-kit-tiny-{cpu_slug()}" if arguments.tiny else f"gpu-kit-{slug(machine.gpu)}"
    page = arguments.out / f"{name}.md"
    results = Results(
        machine=machine,
        command=" ".join(["benchmarks/gpu_kit/run", *sys.argv[1:]]),
        commit=commit(),
        started=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        is_tiny=arguments.tiny,
        parts=[PartResult.of(part) for part in parts],
    )
    if arguments.tiny:
        os.environ["OMP_NUM_THREADS"] = "1"  # tiny networks gain nothing from several threads
    with measurement():
        PartRunner(results, page, TINY if arguments.tiny else SDXL, ends_at=ends_at, say=say).run(parts)
    say(f"written: {page}")
    return 0 if all(part.status in ("done", "skipped") for part in results.parts) else 1


def refuse(problem: str) -> int:
    print(problem, file=sys.stderr)  # noqa: T201
    return 2


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
