# SPDX-License-Identifier: Apache-2.0
"""Runs axe-core on an open page, on a desktop and a phone, in both themes and with forced colours."""

from typing import Any, Literal, NamedTuple

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

_DESKTOP = (1366, 768)
_PHONE = (390, 3000)  # taller than the page, so that the prompt at the bottom of the window covers nothing


class _Look(NamedTuple):
    name: str
    scheme: Literal["light", "dark"] = "light"
    forced_colors: Literal["active", "none"] = "none"
    size: tuple[int, int] = _DESKTOP
    has_all_rules: bool = True  # else only those about colours


_LOOKS = (
    _Look("desktop, light"),
    _Look("desktop, dark", scheme="dark", has_all_rules=False),
    _Look("forced colours", forced_colors="active", has_all_rules=False),
    _Look("phone, light", size=_PHONE, has_all_rules=False),
    _Look("phone, dark", scheme="dark", size=_PHONE),
)
_ALL_RULES = {"rules": {name: {"enabled": True} for name in ("target-size", "label-content-name-mismatch")}}
_COLOUR_RULES = {"runOnly": ["color-contrast", "link-in-text-block"]}
_RUN = """async options => (await axe.run({...options, resultTypes: ["violations"], preload: false})).violations"""


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page in its present state: the look, the rule, the element and the reason."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = []
    for look in _LOOKS:
        page.set_viewport_size({"width": look.size[0], "height": look.size[1]})
        page.emulate_media(color_scheme=look.scheme, forced_colors=look.forced_colors)
        rules: list[dict[str, Any]] = page.evaluate(_RUN, _ALL_RULES if look.has_all_rules else _COLOUR_RULES)
        found += [
            f"{look.name}: {rule['id']}: {node['target'][0]}: {node['failureSummary']}"
            for rule in rules
            for node in rule["nodes"]
        ]
    return found
