# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton check` finds an error in a model if and only if a real Triton refuses to load it."""

import importlib
import pkgutil
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import config_cases
import pytest
from config_cases.case import MODEL, Case

from fastapi_triton.cli.check import runner
from fastapi_triton.cli.check.rule import ERROR, Finding
from support.loading_triton import LoadingTriton, compile_inert_backend

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(config_cases.__path__)
    for case in getattr(importlib.import_module(f"config_cases.{module.name}"), "CASES", ())
]


def named(case: Case) -> str:
    return case.name


async def errors(repository: Path) -> list[Finding]:
    """The errors of the model."""
    found = await runner.check(runner.Subject(repository))
    return [each for each in found if each.severity is ERROR and each.where == MODEL]


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_check_finds_the_error(case: Case, tmp_path: Path) -> None:
    case.write(tmp_path)
    found = await errors(tmp_path)
    assert {each.code for each in found} == ({case.code} if case.code else set()), found
    assert not case.code or any(case.words in each.detail for each in found), found


@pytest.fixture
async def triton(tmp_path: Path) -> AsyncIterator[LoadingTriton]:
    """A running Triton with an empty repository."""
    (tmp_path / "models").mkdir()
    server = LoadingTriton.prepare(tmp_path / "models")
    server.inert_library = compile_inert_backend(tmp_path)
    async with server:
        yield server


@pytest.mark.integration
async def test_triton_refuses_the_same_cases(triton: LoadingTriton) -> None:
    disagreements = []
    async with aiohttp.ClientSession(triton.url) as session:
        await triton.until_live(session)
        for case in CASES:
            if case.not_in_triton:
                continue
            case.write(triton.model_repository)
            reason = await triton.load(session, MODEL)
            if bool(reason) != bool(case.code):
                disagreements.append((case.name, case.code, reason or "Triton loads it"))
            await triton.unload_all(session)
            for folder in triton.model_repository.iterdir():
                shutil.rmtree(folder)
    assert not disagreements
