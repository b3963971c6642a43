# SPDX-License-Identifier: Apache-2.0
"""`/docs` in a real browser: without the internet, below a prefix, with keys. Its examples can be sent unchanged."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from support.api_keys import DRAWS, WATCHES, block
from support.paths import ROOT
from support.scribble_app import PATH
from support.serving import Server, serving

pytestmark = pytest.mark.integration

HOUSE = ROOT / "demo" / "examples" / "house.png"
OPERATIONS = (
    f"POST{PATH}",
    "POST/models/sdxl_scribble_controlnet/infer",
    "POST/v1/images/edits",
    "POST/sdapi/v1/txt2img",
    "DELETE/jobs/{job_id}",
)


@pytest.fixture(scope="module")
def locked(scribble_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that requires keys, below a prefix, with security headers."""
    folder = tmp_path_factory.mktemp("locked")
    shutil.copy(ROOT / "main.py", folder)
    keys: Path = folder / "keys.toml"
    keys.write_text(block("draws", DRAWS) + block("watches", WATCHES, 'scopes = ["docs"]'))
    arguments = (
        "--triton",
        f"http://{scribble_server.triton_url}",
        "--api-keys-file",
        str(keys),
        "--root-path",
        "/draw",
    )
    with serving(*arguments, "--security-headers", folder=folder) as server:
        yield server.wait_until_ready()


class DocsPage:
    """`/docs` in a browser that reaches only this server. Failed loads and console messages become complaints."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self._context = context
        self.complaints: list[str] = []
        origin = "{0.scheme}://{0.netloc}/".format(urlsplit(url))
        context.route(lambda address: not address.startswith((origin, "data:", "blob:")), lambda route: route.abort())
        self.page: Page = context.new_page()
        self.page.on("console", self._read)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        self.page.on("response", self._look_at)
        self.page.goto(url)
        expect(self.page.locator(".opblock").first).to_be_visible(timeout=30_000)

    def _read(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _look_at(self, response: Any) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")

    @property
    def operations(self) -> set[str]:
        shown = self.page.locator(".opblock-summary-method, .opblock-summary-path").all_inner_texts()
        return {method + path.replace("\u200b", "") for method, path in zip(shown[::2], shown[1::2], strict=True)}

    def open(self, path: str) -> Locator:
        """Unfold the operation, ready to be tried."""
        operation = self.page.locator(".opblock-post", has=self.page.locator(f'[data-path="{path}"]'))
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Try it out").click()
        return operation

    def execute(self, operation: Locator) -> str:
        """The status of the response."""
        operation.get_by_role("button", name="Execute").click()
        status = operation.locator(".live-responses-table .response-col_status")
        expect(status.last).to_be_visible(timeout=120_000)
        return status.last.inner_text().split()[0]

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., DocsPage]]:
    pages: list[DocsPage] = []

    def open_page(url: str, **context: Any) -> DocsPage:
        pages.append(DocsPage(chromium.new_context(**context), url))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


def test_page_shows_every_api_family_without_another_host(
    visit: Callable[..., DocsPage], scribble_server: Server
) -> None:
    docs = visit(f"{scribble_server.url}/docs")
    assert set(OPERATIONS) <= docs.operations
    expect(docs.page.get_by_role("button", name="Authorize")).to_have_count(0)
    assert docs.complaints == []


def test_page_sends_its_own_example_as_json_and_as_a_form(
    visit: Callable[..., DocsPage], scribble_server: Server
) -> None:
    docs = visit(f"{scribble_server.url}/docs")
    operation = docs.open(PATH)
    assert docs.execute(operation) == "200"
    operation.get_by_label("Request content type").select_option("multipart/form-data")
    files = operation.locator("input[type=file]")
    expect(files).to_have_count(3)  # image, init_image, mask
    files.first.set_input_files(HOUSE)
    assert docs.execute(operation) == "200"
    assert docs.complaints == []


def test_key_typed_at_authorize_is_sent_with_requests_below_a_prefix(
    visit: Callable[..., DocsPage], locked: Server
) -> None:
    docs = visit(f"{locked.url}/draw/docs", http_credentials={"username": "anyone", "password": WATCHES})
    assert set(OPERATIONS[:-1]) <= docs.operations
    docs.page.get_by_role("button", name="Authorize").first.click()
    dialog = docs.page.locator(".dialog-ux .auth-container", has=docs.page.get_by_role("heading", name="Bearer"))
    dialog.get_by_label("auth-bearer-value").fill(DRAWS)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").click()
    operation = docs.open(PATH)
    assert docs.execute(operation) == "200"
    expect(operation.locator(".curl")).to_contain_text(f"Authorization: Bearer {DRAWS}")
    assert docs.complaints == []


def test_docs_require_the_scope_docs_and_their_files_no_key(locked: Server) -> None:
    assert requests.get(f"{locked.url}/docs", timeout=30).status_code == 401
    assert requests.get(f"{locked.url}/docs", auth=("", DRAWS), timeout=30).status_code == 403
    page = requests.get(f"{locked.url}/docs", auth=("", WATCHES), timeout=30)
    assert "default-src 'none'; script-src 'self';" in page.headers["Content-Security-Policy"]
    for path in re.findall(r'(?:src|href)="(/draw/[^"]+)"', page.text):
        assert requests.get(f"{locked.url}{path}", timeout=30).status_code == 200
    assert requests.get(f"{locked.url}/swagger-ui/0/swagger-ui.css", timeout=30).status_code == 404


def test_every_example_of_a_request_body_can_be_sent_unchanged(scribble_server: Server) -> None:
    document = scribble_server.get("/openapi.json").json()
    sent = set()
    for path, operations in document["paths"].items():
        for media_type, content in operations.get("post", {}).get("requestBody", {"content": {}})["content"].items():
            examples = [each["value"] for each in content.get("examples", {}).values()] or [content["example"]]
            for example in examples:
                body = {"json": example} if media_type == "application/json" else {"files": form(example)}
                response = scribble_server.post(path.replace("{version}", "1"), **body)
                assert response.status_code == 200, (path, media_type, response.text)
                sent.add((path, media_type))
    assert len(sent) == 17
    assert {(PATH, "application/json"), (PATH, "multipart/form-data")} < sent


def form(fields: dict[str, Any]) -> dict[str, tuple[None, str]]:
    """Text fields of a multipart form."""
    return {name: (None, str(value)) for name, value in fields.items()}
