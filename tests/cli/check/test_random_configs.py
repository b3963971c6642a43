# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton check` and a real Triton agree on which of two thousand random model repositories are valid."""

import itertools
import shutil
from pathlib import Path

import aiohttp
import pytest
from config_cases.case import MODEL, Case
from nearly_valid.repositories import repository

from fastapi_triton.cli.check import runner
from fastapi_triton.cli.check.rule import ERROR
from fastapi_triton.embedded import triton_process
from support.loading_triton import LoadingTriton, compile_inert_backend

NUM_REPOSITORIES = 2000
MIN_AGREEMENT = 0.99
# Triton loads such a model, but every request to it fails.
ERRORS_OF_REQUESTS = {"duplicate-input"}


def random_repositories() -> list[Case]:
    """Random repositories that differ from each other, the same ones every time."""
    cases: dict[str, Case] = {}
    for seed in itertools.count():
        case = repository(seed)
        cases.setdefault(str((case.config, case.files)), case)
        if len(cases) == NUM_REPOSITORIES:
            return list(cases.values())
    raise AssertionError


async def reason_of(triton: LoadingTriton, session: aiohttp.ClientSession) -> str:
    """Triton's reason if it refuses a model of the repository, else ""."""
    for model in sorted(triton.model_repository.iterdir()):
        try:
            reason = await triton.load(session, model.name)
        except aiohttp.ServerDisconnectedError:
            await triton.until_live(session)
            return "Triton crashes"
        if reason:
            return reason
    return ""


@pytest.mark.integration
@pytest.mark.slow
async def test_triton_refuses_the_same_random_repositories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_process, "LONGEST_BACKOFF_S", 0.1)  # some configs crash Triton
    (tmp_path / "models").mkdir()
    triton = LoadingTriton.prepare(tmp_path / "models")
    triton.inert_library = compile_inert_backend(tmp_path)
    cases = random_repositories()
    disagreements: list[str] = []
    num_valid = 0
    async with triton, aiohttp.ClientSession(triton.url) as session:
        await triton.until_live(session)
        for case in cases:
            case.write(triton.model_repository)
            reason = await reason_of(triton, session)
            findings = await runner.check(runner.Subject(triton.model_repository))
            errors = [
                f"{each.where}: {each.code}: {each.detail}"
                for each in findings
                if each.severity is ERROR and each.code not in ERRORS_OF_REQUESTS
            ]
            num_valid += not reason
            if bool(reason) != bool(errors):
                disagreements.append(_explanation(case, reason, errors))
            await triton.unload_all(session)
            for folder in triton.model_repository.iterdir():
                shutil.rmtree(folder)
    agreement = 1 - len(disagreements) / len(cases)
    with capsys.disabled():
        print(f"\n{agreement:.2%} of {len(cases)} repositories: check and Triton agree. Triton loads {num_valid}.")  # noqa: T201
    assert agreement >= MIN_AGREEMENT, "\n\n".join(disagreements)


def _explanation(case: Case, reason: str, errors: list[str]) -> str:
    """A disagreement: the repository, with escapes for invisible characters, and what Triton and check say."""
    lines = [f"=== {case.name}"]
    for path, text in {f"{MODEL}/config.pbtxt": case.config, **case.files}.items():
        lines += [f"--- {path}", *(ascii(line)[1:-1] for line in str(text).split("\n"))]
    return "\n".join([*lines, f"Triton: {reason or 'loads it'}", f"check: {'; '.join(errors) or 'no error'}"])
