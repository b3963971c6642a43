# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton check` and a real Triton agree on which of two thousand random model repositories are valid."""

import shutil
from pathlib import Path

import aiohttp
import pytest
from config_cases.case import Case
from hypothesis import HealthCheck, Phase, given, seed, settings
from nearly_valid.repositories import repositories

from fastapi_triton.cli.check import runner
from fastapi_triton.cli.check.rule import ERROR
from support.loading_triton import LoadingTriton, compile_inert_backend

NUM_REPOSITORIES = 2000
MIN_AGREEMENT = 0.7


def drawn() -> list[Case]:
    """Random repositories, the same ones every time."""
    cases: list[Case] = []

    @seed(0)
    @settings(max_examples=NUM_REPOSITORIES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(repositories())
    def draw(case: Case) -> None:
        cases.append(case)

    draw()
    return cases


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
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # protobuf's, about a text's escapes
async def test_triton_refuses_the_same_random_repositories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    triton = LoadingTriton.prepare(tmp_path / "models")
    triton.inert_library = compile_inert_backend(tmp_path)
    cases = drawn()
    disagreements: list[str] = []
    num_valid = 0
    async with triton, aiohttp.ClientSession(triton.url) as session:
        await triton.until_live(session)
        for case in cases:
            case.write(triton.model_repository)
            reason = await reason_of(triton, session)
            findings = await runner.check(runner.Subject(triton.model_repository))
            errors = [f"{each.where}: {each.code}: {each.detail}" for each in findings if each.severity is ERROR]
            num_valid += not reason
            if bool(reason) != bool(errors):
                disagreements.append(_explanation(case, reason, errors))
            await triton.unload_all(session)
            for folder in triton.model_repository.iterdir():
                shutil.rmtree(folder)
    agreement = 1 - len(disagreements) / len(cases)
    with capsys.disabled():
        print(f"\n{agreement:.2%} of {len(cases)} repositories: check and Triton agree. Triton loads {num_valid}.")  # noqa: T201
    assert len(cases) == NUM_REPOSITORIES
    assert agreement >= MIN_AGREEMENT, "\n\n".join(disagreements)


def _explanation(case: Case, reason: str, errors: list[str]) -> str:
    """A disagreement: the repository, what Triton says, what check says."""
    files = [f"--- {path}\n{text!s}" for path, text in {"m/config.pbtxt": case.config, **case.files}.items()]
    return "\n".join(
        [f"=== {case.name}", *files, f"Triton: {reason or 'loads it'}", f"check: {'; '.join(errors) or 'no error'}"]
    )
