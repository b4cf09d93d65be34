"""What `results.md` and `sweep.md` say, as a part of the page: one text, one layout, for both."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markupsafe import Markup

_FIGURE = re.compile(r"\d ± \d|\[[\d.]+, [\d.]+\]|(?:\d+ min )?\d+ s\b|\d+ GB")
"""What a narrow column does not break."""
_UNDERLINED = re.compile(r"&lt;ins&gt;(.*?)&lt;/ins&gt;")


def as_html(markdown: str) -> Markup:
    """Return Markdown as HTML with headings one step lower, and each table in a box that scrolls.

    It is the Markdown that `ddad` writes: headings, paragraphs, lists, tables, code, **bold** and <ins>. All else,
    links and patterns of file names among it, is shown as the characters that it is.
    """
    parser = MarkdownIt("zero").enable(["heading", "list", "table", "backticks", "emphasis"])
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        for part in token.children or ():
            if part.nesting and part.markup != "**":  # as of a class of anomaly by the names of its files, *-gl*
                part.type, part.tag, part.content, part.nesting = "text", "", part.markup, 0
    html = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    html = _UNDERLINED.sub(r"<ins>\1</ins>", html)
    return Markup(_FIGURE.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), html))
