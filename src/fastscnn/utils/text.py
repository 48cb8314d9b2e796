"""Durations, numbers, counts and names as text."""


def duration(seconds: float) -> str:
    """`92 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def number(value: float) -> str:
    """With one decimal place below 100, and none above."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def plural(count: int, unit: str) -> str:
    """A count with its unit: `1 frame`, `2,000 frames`."""
    return f"{count:,} {unit}{'s' * (count != 1)}"


def one_line(text: str) -> str:
    """A sentence in one line, whatever the names in it hold: line ends and control characters become escape codes."""
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text.strip())


def _escaped(sign: str) -> str:
    return sign if "\udc80" <= sign <= "\udcff" else sign.encode("unicode_escape").decode("ascii")
