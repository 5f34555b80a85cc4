r"""The one place that writes to stdout and stderr, and that makes JSON and CSV: no name can do harm there.

A file name, a caption, a model's card or an error may hold escape codes, newlines, marks that turn the direction of
text, or bytes that are no UTF-8. In a line for people they become ``\x1b``, ``\n``, ``\u202e``, ``\xff``; in JSON the
escapes of JSON, so that the values stay the same; a text in CSV that a spreadsheet would take for a formula gets an
apostrophe before it. Knows nothing of collections and models. Rich is imported where it is used.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from indexer.files import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.segment import Segment

    from indexer.progress import Progress

#: What a spreadsheet takes for the start of a formula (OWASP, CSV Injection), also as the wide forms of East Asia.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Longer cards are cut: a page is read, not a book.
MAX_CARD_CHARACTERS = 100_000
#: In pages and cells tabs and line breaks may stand, and the spaces and joiners of the world's scripts.
_HARMFUL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_WIDTH_OF_A_FILE = 120
#: A slow stage shows this often, in a log, that it is at work.
LINE_EVERY_S = 10.0


# -- lines ----------------------------------------------------------------------------------------------------------


def line(text: object = "") -> None:
    """One line to stdout, whatever is in it."""
    _write(sys.stdout, printable(str(text)) + "\n")


def tab_separated(cells: Iterable[str]) -> None:
    """One line of cells to stdout; a tab or newline within one is escaped, so that the columns stay."""
    _write(sys.stdout, "\t".join(map(printable, cells)) + "\n")


def warn(text: object) -> None:
    """One line to stderr, whatever is in it."""
    _write(sys.stderr, printable(str(text)) + "\n")


def to_a_terminal() -> bool:
    """Whether somebody looks at stdout, and no program reads it."""
    return sys.stdout is not None and bool(sys.stdout.isatty())


def path_line(path: str | os.PathLike[str]) -> None:
    """A path on a line of stdout: its own bytes for another program, escaped as ``ls`` does for a terminal."""
    stream, name = sys.stdout, os.fspath(path)
    if stream is None or stream.isatty() or os.name == "nt" or not hasattr(stream, "buffer"):
        line(name)
        return
    stream.flush()
    stream.buffer.write(_bytes_of(name) + b"\n")
    stream.buffer.flush()


def _bytes_of(name: str) -> bytes:
    """The name as the disk has it, also where the locale's encoding is not the one in which it was stored."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape")


def lines_of_results() -> Any:
    """Stdout as a text stream, for :class:`retrieval.batch.ResultFile`."""
    return sys.stdout


def close() -> None:
    """Nothing more is written to stdout: who read it is gone."""
    sys.stdout = None


def facts(document: Mapping[str, Any]) -> None:
    """A line for each key and value, the values under each other."""
    width = max(len(key) for key in document)
    for key, value in document.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(str(item) for item in value) or "none"
        line(f"{key.replace('_', ' '):<{width}}  {value}")


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is None:  # a program without a console, or a pipe that was closed
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


# -- JSON -----------------------------------------------------------------------------------------------------------


def print_json(document: Any) -> None:
    """One document to stdout."""
    _write(sys.stdout, json_text(document, indent=1, encoding=getattr(sys.stdout, "encoding", None)) + "\n")


def json_text(document: Any, *, indent: int | None = None, encoding: str | None = "utf-8") -> str:
    """JSON in which every character that does not print is escaped; parsed, the values are the same.

    NaN and infinity, which JSON has no word for, are ``null``. Without ``indent`` it is one line.
    """
    options: dict[str, Any] = {"indent": indent, "default": str, "allow_nan": False}
    utf8 = (encoding or "utf-8").lower().replace("-", "").replace("_", "") == "utf8"
    try:
        text = json.dumps(document, ensure_ascii=not utf8, **options)
    except ValueError:
        text = json.dumps(_finite(document), ensure_ascii=not utf8, **options)
    if text.replace("\n", "").isprintable():
        return text
    # a control character can only stand inside a string: between strings there are none but newlines
    return "".join(char if char.isprintable() or char == "\n" else _json_escape(char) for char in text)


def _json_escape(char: str) -> str:
    code = ord(char)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


# -- CSV ------------------------------------------------------------------------------------------------------------


class CsvFile:
    """A CSV with named columns; numbers stay numbers, and no text becomes a formula."""

    def __init__(self, file: Any, columns: Sequence[str], *, lineterminator: str = "\n") -> None:
        self._writer = csv.writer(file, lineterminator=lineterminator)
        self._columns = columns
        self._writer.writerow(columns)

    def row(self, values: Iterable[Any]) -> None:
        """The values of all columns, in their order."""
        self._writer.writerow([csv_cell(value) for value in values])

    def named(self, values: Mapping[str, Any]) -> None:
        """Values by column; what is left out is empty."""
        self.row(values.get(column, "") for column in self._columns)


def csv_cell(value: Any) -> Any:
    """A text without control characters, with an apostrophe where it looks like a formula; a number as it is.

    >>> csv_cell("=1+1"), csv_cell(-0.5), csv_cell("a-b")
    ("'=1+1", -0.5, 'a-b')
    """
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    guarded = f"'{text}" if text.startswith(FORMULA_STARTS) else text
    return harmless(guarded)


def harmless(text: str) -> str:
    """The text of a page or cell without what a terminal obeys and what turns the direction of text."""
    return _HARMFUL.sub(lambda found: printable(found[0]), text)


# -- tables, pages and progress: rich -------------------------------------------------------------------------------


def show(renderable: RenderableType) -> None:
    """A table or page to stdout, its texts escaped after rich has laid them out."""
    console().print(_Escaped(renderable))


def show_card(path: Path) -> None:
    """A model's card, which may be a stranger's: Markdown without links that a terminal follows, cut if it is long."""
    from rich.markdown import Markdown
    from rich.text import Text

    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="backslashreplace") as file:
        text = file.read(MAX_CARD_CHARACTERS)
        plain = "\n".join(printable(one) for one in text.expandtabs().splitlines())
        line()
        try:
            show(Markdown(plain, hyperlinks=False))
        except Exception:  # nested beyond what the reader of Markdown can do: RecursionError and others
            show(Text(plain))


def console(*, stderr: bool = False) -> Console:
    """Rich's console, on the stream itself: what it writes has passed through :func:`show`."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream is not None and stream.isatty() else _width_of_a_file()
    raw = stream.stream if isinstance(stream, _Guard) else stream
    file: Any = raw if raw is None else _Encodable(raw)
    return Console(file=file, width=width, soft_wrap=False, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """``show_stage(stage)`` shows on stderr what is being done."""
    from rich.text import Text

    with console(stderr=True).status("…") as shown:
        yield lambda stage: shown.update(Text(printable(stage)))


@contextlib.contextmanager
def progress(*, lines: bool = False) -> Iterator[Progress]:
    """Progress bars on stderr: ``bar(stage, done, total, skipped)``; a bar a stage, nothing if it is over at once.

    ``lines``: where stderr is no terminal, lines in their place: every tenth of a stage, every ten seconds, its end.
    """
    if lines and not (sys.stderr is not None and sys.stderr.isatty()):
        yield ProgressLines(warn)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[skipped]}"),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console(stderr=True), transient=True) as shown:

        def bar(stage: str, done: int, total: int, skipped: int = 0, /) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(printable(stage), total=total, rate="", skipped="")
            task = shown.tasks[shown.task_ids.index(tasks[stage])]
            rate = f"{task.speed:.1f}/s" if task.speed else ""
            note = f"{skipped} skipped" if skipped else ""
            shown.update(tasks[stage], completed=done, total=total, rate=rate, skipped=note)

        yield bar


def _width_of_a_file() -> int:
    """Columns of a table in a file or pipe: those of COLUMNS, where it is set."""
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else _WIDTH_OF_A_FILE


class ProgressLines:
    """Progress for a log: of each stage a line at its end, and on the way every tenth, at most one a second.

    A slow stage has one every ten seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._shown: dict[str, tuple[int, int, float]] = {}
        """Of each stage: done and tenths of the last line, and when that was."""

    def __call__(self, stage: str, done: int, total: int, skipped: int = 0, /) -> None:
        """``done`` of ``total``, counted within the stage."""
        tenths = 10 * done // total if total > 0 else 0
        now = self._clock()
        before, shown, when = self._shown.setdefault(stage, (-1, 0, now))
        over = 0 < total <= done
        due = now - when >= LINE_EVERY_S or (tenths > shown and now - when >= 1) or over
        if due and done != before:
            self._shown[stage] = (done, tenths, now)
            more = f", {skipped:,} skipped" if skipped else ""
            self._write(f"{stage}: {done:,} of {total:,}{more}")


class _Escaped:
    """What rich prints, each text of it escaped, and no link that a terminal follows."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: Any) -> Iterator[Segment]:
        from rich.segment import Segment

        for text, style, control in console.render(self._renderable, options):
            if control is None:
                escaped = "\n".join(printable(one) for one in text.split("\n"))
                linked = style is not None and style.link is not None
                yield Segment(escaped, style.update_link(None) if style is not None and linked else style)


# -- what others write ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Escape what libraries write to stdout and stderr, too: warnings, logs, the errors of the command line's parser.

    After an exception the guard stays, for the traceback.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_guard(stream) for stream in before)
    guards = sys.stdout, sys.stderr
    try:
        yield
    except SystemExit:
        _restore(before, guards)
        raise
    _restore(before, guards)


@contextlib.contextmanager
def printable_usage_errors() -> Iterator[None]:
    """An error of the command line's parser repeats the user's argument: its message becomes one line that prints."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str) and hasattr(error, "show"):
            error.message = printable(message)  # type: ignore[attr-defined]
        raise


def _restore(before: tuple[Any, Any], guards: tuple[Any, Any]) -> None:
    """Unless another stream was put there meanwhile, such as none after the pipe was closed."""
    if sys.stdout is guards[0]:
        sys.stdout = before[0]
    if sys.stderr is guards[1]:
        sys.stderr = before[1]


def _guard(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, _Guard) else _Guard(stream)


class _Encodable:
    """A text stream that writes the escape of a character that its encoding does not have."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        _write(self.stream, text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Guard:
    """A text stream that escapes what is written; newlines, tabs and the carriage returns of progress bars pass."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        passed = re.sub(r"[^\n\r\t]+", lambda found: printable(found[0]), text)
        _write(self.stream, passed)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for one in lines:
            self.write(one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
