"""Words of messages that depend on a number, and how numbers are written in all of them."""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """Say how many there are, in words that fit the number; several are by default those of one and an `s`."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def percent(share: float, digits: int = 3) -> str:
    """Write a share in percent, with at most so many significant digits: `0.05` as `5 %`."""
    text = f"{100 * share:.{digits}g}"
    return f"{100 * share:.0f} %" if "e+" in text else f"{text} %"


def on_one_line(text: str) -> str:
    """Write what a terminal would not show, such as a line break in a file's name, as its escape sequence."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def whole_percent(share: float) -> str:
    """Write a share, such as an estimate, in whole percent: `0.304` as `30 %`."""
    return f"{100 * share:.0f} %"
