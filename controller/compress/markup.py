"""The HTML that our pages are made of. Pure; a page loads nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

from controller.compress.svg import COLOURS, FONT

_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 {FONT}; color: #1f2933; background: #f4f6f8; margin: 0; }}
main {{ max-width: 1284px; margin: 0 auto; padding: 28px 20px 60px; }}
h1 {{ font-size: 26px; margin: 0 0 4px; }}
h2 {{ font-size: 19px; margin: 36px 0 10px; }}
p {{ margin: 6px 0; max-width: 78ch; }}
.soft {{ color: #62707d; }}
.card {{ background: #fff; border: 1px solid #e3e8ed; border-radius: 8px; padding: 10px;
  overflow-x: auto; }}
.grid {{ display: flex; flex-wrap: wrap; gap: 14px; }}
.grid svg, .card svg {{ max-width: none; display: block; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; }}
th, td {{ padding: 5px 9px; text-align: right; white-space: nowrap; }}
th {{ color: #62707d; font-weight: 600; border-bottom: 1px solid #cdd5dc; }}
th:first-child, td:first-child {{ text-align: left; }}
tr + tr td {{ border-top: 1px solid #eef1f4; }}
.dot {{ display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 8px; }}
details {{ margin: 12px 0; }}
summary {{ cursor: pointer; font-weight: 600; margin-bottom: 8px; }}
"""


def document(title: str, body: Iterable[str]) -> str:
    """Return a whole page; the parts of its body are HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def prose(words: str) -> str:
    """Return a paragraph that explains."""
    return f'<p class="soft">{escape(words)}</p>'


def card(content: str) -> str:
    """Return HTML in a frame."""
    return f'<div class="card">{content}</div>'


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a frame; cells are HTML, heads are words."""
    heads = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join(map(row_of, rows))
    return card(f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>")


def row_of(cells: Sequence[str]) -> str:
    """Return a row of a table; cells are HTML."""
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def named(number: int, name: str) -> str:
    """Return a name with the dot that it has in plots."""
    colour = COLOURS[number % len(COLOURS)]
    return f'<span class="dot" style="background:{colour}"></span>{escape(name)}'
