"""A benchmark's result as a page of Markdown.

Knows nothing of how the numbers were made, or of files.
"""

from __future__ import annotations

import re

from indexer.files import display_path, printable
from retrieval.evaluation.report.rows import (
    CAPTION_COLUMNS,
    NO_CAPTION,
    caption_cells,
    caption_notes,
    notes,
    report_title,
    table_cells,
    table_columns,
)
from retrieval.evaluation.results import BenchmarkResult

#: What Markdown, with GitHub's tables, formulas and addresses, makes more of than text.
_MARKDOWN = re.compile(r"[\\`*_|~$]|\](?=[(\[:])|(?<!\w)@(?=\w)|(?<=\w)@(?=\w+\.\w)|^(?:>|[#+-](?=\s))")
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*:(?=\S)|\bwww\.", re.IGNORECASE)


def as_markdown(result: BenchmarkResult) -> str:
    """The result as a page."""
    columns = table_columns(result)
    lines = [f"# {_escaped(report_title(result))}", "", _row(columns), _row(["---"] * len(columns))]
    lines += [_row(table_cells(direction, columns)) for direction in result.results]
    lines += ["", *(f"- {_escaped(note)}" for note in notes(result, columns))]
    if result.captions is not None:
        lines += [
            "",
            "## Captions",
            "",
            _row(CAPTION_COLUMNS),
            _row(["---"] * len(CAPTION_COLUMNS)),
        ]
        lines += [_row(caption_cells(result.captions)), ""]
        lines += [f"- {_escaped(note)}" for note in caption_notes(result.captions)]
        lines += ["", _row(["picture", "caption", "references"]), _row(["---"] * 3)]
        for example in result.captions.examples:
            references = " / ".join(map(display_path, example.references))
            lines.append(_row([example.path, display_path(example.caption) or NO_CAPTION, references]))
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """``text`` as it stands, in one line: no markup, HTML, link, picture or mention comes of it."""
    shown = _MARKDOWN.sub(r"\\\g<0>", printable(text)).replace("&", "&amp;").replace("<", "&lt;")
    return _ADDRESS.sub(lambda found: found[0].replace(":", "\\:").replace(".", "\\."), shown)
