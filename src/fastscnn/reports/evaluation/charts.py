"""The drawings of the page, as SVG that takes the page's colours."""

from collections.abc import Mapping, Sequence

SIDE, LEFT, TOP, BOTTOM = 300, 44, 12, 40
"""Pixels of the calibration curve: its square, and the room beside it."""


def bar(share: float, interval: Sequence[float] | None) -> str:
    """A bar from 0 to a share of 1, and a line over its interval."""
    lines = ""
    if interval:
        low, high = (100 * end for end in interval)
        lines = f'<path class="whisker" d="M{low:.2f} 6H{high:.2f}M{low:.2f} 3V9M{high:.2f} 3V9"/>'
    filled = f'<rect class="fill" y="1" width="{100 * share:.2f}" height="10" rx="0.4"/>' if share == share else ""
    return (
        '<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="axis" d="M0 0V12M25 0V12M50 0V12M75 0V12M100 0V12"/>{filled}{lines}</svg>'
    )


def calibration_curve(bins: Sequence[Mapping[str, float]]) -> str:
    """How often labels of a probability are right, and how many pixels have it.

    Args:
        bins: `confidence`, `accuracy` and `pixels` of each, as `eval.json` has them.
    """
    width, height = LEFT + SIDE + 12, TOP + SIDE + BOTTOM
    total = sum(one["pixels"] for one in bins) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + SIDE * x, TOP + SIDE * (1 - y)

    parts = []
    for step in range(6):
        share = step / 5
        x, y = place(share, share)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{SIDE}M{x:.1f} {TOP}v{SIDE}"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + SIDE + 16}" text-anchor="middle">{100 * share:.0f}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * share:.0f}</text>')
    middle = LEFT + SIDE / 2
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">probability of the label, %</text>')
    turned = f"translate(11 {TOP + SIDE / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">right pixels, %</text>')
    for one in bins:
        x, y = place(one["confidence"], one["pixels"] / total)
        parts.append(f'<rect class="amount" x="{x - 4:.1f}" y="{y:.1f}" width="8" height="{TOP + SIDE - y:.1f}"/>')
    parts.append(f'<path class="ideal" d="M{LEFT} {TOP + SIDE}L{LEFT + SIDE} {TOP}"/>')
    points = [place(one["confidence"], one["accuracy"]) for one in bins]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline class="measured" points="{line}"/>')
    parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    label = "Share of right pixels over the probability of their label"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
