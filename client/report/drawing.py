"""Plots as SVG within a page: bars over time, a histogram, a bar in parts. Each has its text in words.

About a hundred lines instead of a plotting library: matplotlib alone would be ten times the rest of the client, and its
pictures know nothing of dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 460, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 40


def bars(
    values: Sequence[float],
    *,
    name: str,
    title: str,
    says: str,
    marks: Sequence[tuple[float, str]],
    amount: Callable[[float], str],
    labels: Sequence[str],
    kind: str,
) -> str:
    """Bars side by side. `marks`: places on the axis, from 0 to the number of bars, and what stands there.

    `name` is the plot's own within its page, `kind` the class of its bars. `amount` says a value in words, `labels`
    each bar.
    """
    top = _round_up(max(values, default=0.0))
    inner_width, inner_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    step = inner_width / max(len(values), 1)
    floor = _TOP + inner_height
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = floor - share * inner_height
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 6, y + 4, amount(share * top), anchor="end"))
    for number, value in enumerate(values):
        x, gap = _LEFT + number * step, 1.0 if step > 3 else 0.0
        height = max(inner_height * value / top, 1.0) if value > 0 else 0.0
        if height:
            parts.append(
                f'<rect class="bar {kind}" x="{x:.2f}" y="{floor - height:.2f}" width="{max(step - gap, 0.5):.2f}" '
                f'height="{height:.2f}"><title>{escape(labels[number])}</title></rect>'
            )
    for place, said in marks:
        x = _LEFT + place * step
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        anchor = "start" if place == 0 else "end" if place >= len(values) else "middle"
        parts.append(_text(x, floor + 18, said, anchor=anchor))
    return _svg(name, HEIGHT, title, says, parts)


def parts_of_a_bar(shares: Sequence[tuple[str, float, str]], *, name: str, title: str, says: str) -> str:
    """One bar in parts: name, value, the value in words."""
    whole = sum(value for _, value, _ in shares) or 1.0
    x, drawn = 0.0, []
    for number, (part, value, said) in enumerate(shares):
        width = WIDTH * value / whole
        drawn.append(
            f'<rect class="part{number % 5}" x="{x:.2f}" y="0" width="{width:.2f}" height="36">'
            f"<title>{escape(f'{part}: {said}')}</title></rect>"
        )
        x += width
    return _svg(name, 36, title, says, drawn, stretched=True)


def time_marks(length_s: float, count: int, said: Callable[[float], str]) -> list[tuple[float, str]]:
    """About five round moments along `count` slots that take `length_s` together."""
    if not count or length_s <= 0:
        return []
    rough = length_s / 5
    step = next((each for each in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600) if each >= rough), None)
    step_s = step or math.ceil(rough / 3600) * 3600
    return [(moment * count / length_s, said(moment)) for moment in range(0, math.floor(length_s) + 1, step_s)]


def _svg(name: str, height: int, title: str, says: str, parts: Sequence[str], *, stretched: bool = False) -> str:
    stretch = ' class="stretched" preserveAspectRatio="none"' if stretched else ""
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}"{stretch} '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-says">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-says">{escape(says)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, said: str, *, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 with zeros behind it."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in (1, 2, 5, 10) if factor * power >= value * 0.9999), 10 * power)
