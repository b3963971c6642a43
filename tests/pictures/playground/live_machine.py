# SPDX-License-Identifier: Apache-2.0
"""`live.js` alone: the states of live mode, in a browser whose time stands still."""

from playwright.sync_api import Page

# `live.js` alone, with requests that the test ends. `log` has what began, ended and changed.
MACHINE = """async () => {
  const {Live} = await import(document.querySelector("link[href$='/live.js']").href);
  const log = window.log = [];
  window.hasDrawing = true;
  const draw = (kind, signal) => new Promise(resolve => {
    log.push(kind);
    window.end = outcome => { log.push("end"); resolve({isCompleted: true, ...outcome}); };
    signal.addEventListener("abort", () => log.push("abort"));
  });
  window.live = new Live({draw, canDraw: () => window.hasDrawing});
  window.live.addEventListener("unfit", () => log.push("unfit"));
}"""


def step(page: Page, script: str) -> list[str]:
    """Run a line, let promises settle, and return what happened."""
    log: list[str] = page.evaluate(
        f"async () => {{ {script}; for (let i = 0; i < 30; i++) await null; return log.splice(0); }}"
    )
    return log


def after(page: Page, milliseconds: int) -> list[str]:
    page.clock.run_for(milliseconds)
    return step(page, "")
