"""Tables that look the same on a page, in a notebook and in a terminal, and print the same digits on every machine."""

import html
import math
import numbers


class Table:
    """What `table` returns: HTML where HTML is shown, aligned text elsewhere (str), Markdown by .markdown()."""

    def __init__(self, columns, cells, right, caption, bold):
        self.columns, self.cells, self.right, self.caption, self.bold = columns, cells, right, caption, bold

    def __repr__(self):
        rows = [self.columns, *self.cells]
        widths = [max(len(row[j]) for row in rows) for j in range(len(self.columns))]
        lines = ["  ".join(text.rjust(w) if right else text.ljust(w) for text, w, right in zip(row, widths, self.right, strict=True))
                 for row in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join(([self.caption] if self.caption else []) + [line.rstrip() for line in lines])

    def markdown(self):
        """As a Markdown table; the caption, if any, is a line above it."""
        def line(row):
            return "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"
        marked = [[f"**{text}**" if (i, j) in self.bold else text for j, text in enumerate(row)] for i, row in enumerate(self.cells)]
        rule = "|" + "|".join("--:" if right else ":--" for right in self.right) + "|"
        above = [self.caption, ""] if self.caption else []
        return "\n".join([*above, line(self.columns), rule, *map(line, marked)])

    def _repr_markdown_(self):
        return self.markdown()

    def _repr_html_(self):
        def cell(tag, text, j, bold=False):
            text = html.escape(text, quote=False)
            side = "right" if self.right[j] else "left"
            return f'<{tag} style="text-align:{side}">{f"<b>{text}</b>" if bold else text}</{tag}>'
        caption = f"<caption>{html.escape(self.caption, quote=False)}</caption>" if self.caption else ""
        head = "".join(cell("th", text, j) for j, text in enumerate(self.columns))
        body = "".join("<tr>" + "".join(cell("td", text, j, (i, j) in self.bold) for j, text in enumerate(row)) + "</tr>"
                       for i, row in enumerate(self.cells))
        # The box scrolls, so a wide table does not widen a telephone's page; colours are the page's own, so dark mode holds.
        return ('<div style="overflow-x:auto"><table class="dpm-table">'
                f"{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def table(rows, columns=None, caption=None, digits=3, best=None):
    """A table of `rows`: dicts, or sequences in the order of `columns` (names; by default the first dict's keys).

    digits: decimals of a float, one number for all or {column: number}; integers stay whole, None is "–", and a tensor or
    numpy scalar counts as its value. best: {column: "min" or "max"}, whose best cells are bold. $…$ is mathematics on a page.
    ValueError: no rows, rows of different lengths, a key that is no column.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("rows is empty; a table needs at least one")
    if columns is None:
        if not isinstance(rows[0], dict):
            raise ValueError("columns is missing; it can be left out only where the rows are dicts")
        columns = list(rows[0])
    columns = [str(name) for name in columns]
    values = []
    for row in rows:
        if isinstance(row, dict):
            unknown = [key for key in row if str(key) not in columns]
            if unknown:
                raise ValueError(f"rows: key {unknown[0]!r} is not among the columns {columns}")
            row = [{str(k): v for k, v in row.items()}.get(name) for name in columns]
        row = [v.item() if hasattr(v, "item") else v for v in row]
        if len(row) != len(columns):
            raise ValueError(f"rows: {row!r} has {len(row)} entries for {len(columns)} columns")
        values.append(row)
    for what, names in (("digits", digits if isinstance(digits, dict) else {}), ("best", best or {})):
        unknown = [name for name in names if name not in columns]
        if unknown:
            raise ValueError(f"{what}: {unknown[0]!r} is not among the columns {columns}")
    places = [digits.get(name, 3) if isinstance(digits, dict) else digits for name in columns]
    cells = [[_text(v, p) for v, p in zip(row, places, strict=True)] for row in values]
    right = [any(map(_is_number, column)) and all(v is None or _is_number(v) for v in column) for column in zip(*values, strict=True)]
    bold = set()
    for name, wanted in (best or {}).items():
        if wanted not in ("min", "max"):
            raise ValueError(f"best[{name!r}] is {wanted!r}; allowed: 'min', 'max'")
        j = columns.index(name)
        finite = [row[j] for row in values if _is_number(row[j]) and math.isfinite(row[j])]
        if finite:
            top = _text(min(finite) if wanted == "min" else max(finite), places[j])
            bold |= {(i, j) for i in range(len(values)) if cells[i][j] == top}  # what looks equal is marked equal
    return Table(columns, cells, right, caption, bold)


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(value, places):
    if value is None:
        return "–"
    if _is_number(value) and not isinstance(value, numbers.Integral):
        text = f"{value:.{places}f}"
        return text.removeprefix("-") if float(text) == 0 else text  # -0.000 on one machine is 0.000 on another
    return str(value)
