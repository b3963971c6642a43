# SPDX-License-Identifier: Apache-2.0
"""A bar chart of ratios as SVG. It needs no plotting library, since nothing else here does."""

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.common.ratio import Ratio

COLOURS = ("#b7bdc9", "#8d99ae", "#5c6784", "#e07a5f", "#3d8b7d", "#c9a227", "#7b4f9e")
BAR, GAP, LEFT, WIDTH, TOP = 16, 22, 150, 760, 46


def bar_chart(title: str, unit: str, groups: Mapping[str, Mapping[str, Ratio]], peers: Sequence[str]) -> str:
    """A group of bars for each workload, with one bar for each peer. Whiskers show the lowest and the highest ratio."""
    longest = max((bar.most for bars in groups.values() for bar in bars.values()), default=1.0) or 1.0
    scale = (WIDTH - LEFT - 90) / longest
    parts, y = [_text(12, 24, title, size=15), _legend(peers)], TOP + 22
    for name, bars in groups.items():
        parts.append(_text(12, y + BAR * len(bars) / 2 + 4, name))
        for peer, bar in bars.items():
            parts.append(_bar(y, bar, scale, COLOURS[peers.index(peer) % len(COLOURS)], unit))
            y += BAR
        y += GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="white"/>', *parts, "</svg>", ""])


def _bar(y: float, bar: Ratio, scale: float, colour: str, unit: str) -> str:
    middle = y + (BAR - 3) / 2
    return "".join(
        [
            f'<rect x="{LEFT}" y="{y}" width="{bar.median * scale:.1f}" height="{BAR - 3}" fill="{colour}"/>',
            f'<path d="M{LEFT + bar.least * scale:.1f} {middle}H{LEFT + bar.most * scale:.1f}" stroke="#333"/>',
            _text(LEFT + bar.most * scale + 6, y + BAR - 5, f"{bar.median:.2f}{unit}", size=11),
        ]
    )


def _legend(peers: Sequence[str]) -> str:
    parts, x = [], 12.0
    for number, peer in enumerate(peers):
        parts.append(f'<rect x="{x}" y="{TOP - 10}" width="11" height="11" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(_text(x + 16, TOP, peer, size=12))
        x += 34 + 6.6 * len(peer)
    return "".join(parts)


def _text(x: float, y: float, text: str, *, size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="#222">{escape(text)}</text>'
