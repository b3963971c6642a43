# SPDX-License-Identifier: Apache-2.0
"""A real browser, for the tests of pages. A conftest imports the fixture."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For a module, not for the session: while it is open, its event loop counts as running in this thread."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
