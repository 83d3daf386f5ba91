"""The tables as Markdown, LaTeX and CSV."""

import re
from collections.abc import Iterator, Sequence

from localemp.reporting.tables import NOT_AVAILABLE, NOT_GIVEN, Cell, Row, Table, spans, told_once
from localemp.utils import csv_writer

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "–": "--", "−": "$-$", "…": r"\ldots{}",
}  # fmt: skip
_CSV = ("table", "row", "about", "published", "column", "value", "low", "high", "shown", "mark", "how_made_or_why_not")


def markdown(tables: Sequence[Table]) -> str:
    """Write all tables with their notes as Markdown; the paper's rows in italics."""
    return "\n".join(_markdown(table) for table in told_once(tables))


def latex(tables: Sequence[Table]) -> str:
    """Write all tables as LaTeX for booktabs; the paper's rows in grey."""
    head = "% Needs \\usepackage{booktabs} and \\usepackage{xcolor}, and T1 or LuaLaTeX for quotation marks.\n"
    return head + "\n".join(_latex(table, legend) for table, legend in zip(tables, _legends(tables), strict=True))


def _legends(tables: Sequence[Table]) -> Iterator[str]:
    """Yield for each table what its rows are that no table above has; LaTeX rows have no second line for it."""
    told: set[tuple[str, str]] = set()
    for table in tables:
        rows = {(row.name, row.about) for row in table.rows if row.about and not row.published} - told
        told |= rows
        shown = [f"{row.name}: {row.about}" for row in table.rows if (row.name, row.about) in rows]
        yield f"Rows: {'; '.join(shown)}." if shown else ""


def csv_wide(table: Table) -> str:
    """Write one table as CSV with unrounded numbers and intervals in columns; missing values are empty."""
    places = range(len(table.columns))
    having = {place for place in places if any(row.cells[place].interval for row in table.rows)}
    heads = [[name, *([f"{name} low", f"{name} high"] if place in having else [])]
             for place, name in enumerate(table.columns)]  # fmt: skip
    rows: list[list[csv_writer.Cell]] = [[table.head, "About", *(head for each in heads for head in each)]]
    for row in table.rows:
        cells = [[_plain(cell.value, cell.text), *(_ends(cell) if place in having else [])]
                 for place, cell in enumerate(row.cells)]  # fmt: skip
        rows.append([row.name, row.about, *(text for each in cells for text in each)])
    return csv_writer.written(rows)


def csv_long(tables: Sequence[Table]) -> str:
    """Write all tables as one CSV, one cell a line, with intervals, signatures and reasons."""
    rows: list[list[csv_writer.Cell]] = [list(_CSV)]
    for table in tables:
        for row in table.rows:
            kept = [table.key, row.name, row.about, str(row.published).lower()]
            for column, cell in zip(table.columns, row.cells, strict=True):
                shown = re.sub(r"\s", " ", cell.text)
                rows.append([*kept, column, _plain(cell.value, ""), *_ends(cell), shown, cell.mark, cell.about])
    return csv_writer.written(rows)


def tex(text: str) -> str:
    """Return a text escaped for LaTeX."""
    return "".join(_TEX.get(character, character) for character in re.sub(r"\s", " ", text))


def _markdown(table: Table) -> str:
    lines = [f"## {_md(table.title)}", ""]
    lines.append(f"| {' | '.join(map(_md, (table.head, *table.columns)))} |")
    lines.append(f"|---|{'---:|' * len(table.columns)}")
    for row in table.rows:
        name = f"*{_md(row.name)}* ({_md(row.about)})" if row.published else _md(row.name)
        name += f" ({_md(row.about)})" if row.about and not row.published else ""
        cells = [_md_cell(cell) for cell in row.cells]
        if row.published:
            cells = [f"*{cell}*" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join([name, *cells])} |")
    if table.notes:
        lines += ["", *(f"- {f'{note.mark}: ' if note.mark else ''}{_md_note(note.text)}" for note in table.notes)]
    if table.made:
        lines += ["", "How the numbers were made:", ""]
        lines += [f"- `{signature.replace('`', chr(39))}`: {_md(names)}" for signature, names in table.made]
    return "\n".join(lines) + "\n"


def _md_cell(cell: Cell) -> str:
    text = f"**{_md(cell.text)}**" if cell.bold else _md(cell.text)
    return text + (f"<sup>{cell.mark}</sup>" if cell.mark else "")


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", re.sub(r"\s", " ", text))


def _md_note(text: str) -> str:
    return "".join(f"`{part}`" if index % 2 else _md(part) for index, part in enumerate(spans(text)))


def _latex(table: Table, legend: str) -> str:
    rows = []
    for rule, row in table.parted:
        if rule:
            rows.append(r"    \midrule")
        rows.append(_tex_row(row))
    notes = [(f"$^{{{note.mark}}}$ " if note.mark else "") + _tex_note(note.text) for note in table.notes]
    notes += [tex(legend)] if legend else []
    made = [f"%   {signature}: {names}".replace("\n", " ") for signature, names in table.made]
    lines = [
        r"\begin{table}",
        r"  \centering\small",
        rf"  \caption{{{tex(table.title)}}}",
        rf"  \label{{tab:{table.key}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"    \toprule",
        f"    {' & '.join(map(tex, (table.head, *table.columns)))} \\\\",
        r"    \midrule",
        *rows,
        r"    \bottomrule",
        r"  \end{tabular}",
        *([r"  \par\medskip\footnotesize\raggedright " + r" \par ".join(notes)] if notes else []),
        *(["  % How the numbers were made:", *made] if made else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_cell(cell: Cell) -> str:
    return rf"\textbf{{{_tex_lines(cell.text)}}}" if cell.bold else _tex_lines(cell.text)


def _tex_lines(text: str) -> str:
    """A number above its interval; {} keeps the interval's bracket from being an option of the break."""
    lines = [tex(line) for line in text.split("\n")]
    if len(lines) == 1:
        return lines[0]
    stacked = r"\\{}".join(lines)
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{stacked}\end{{tabular}}"


def _tex_note(text: str) -> str:
    return "".join(rf"\texttt{{{tex(part)}}}" if index % 2 else tex(part) for index, part in enumerate(spans(text)))


def _tex_row(row: Row) -> str:
    cells = [
        tex(row.name),
        *(_tex_cell(cell) + (f"$^{{{cell.mark}}}$" if cell.mark else "") for cell in row.cells),
    ]
    if row.published:
        cells = [rf"\textcolor{{gray}}{{{cell}}}" for cell in cells]
    return f"    {' & '.join(cells)} \\\\"


def _plain(value: float | None, text: str) -> float | str:
    if value is not None:
        return value
    return "" if text in (NOT_AVAILABLE, NOT_GIVEN) else text


def _ends(cell: Cell) -> tuple[float | str, float | str]:
    return cell.interval or ("", "")
