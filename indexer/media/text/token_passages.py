"""A text -> passages of as many tokens as the model reads. Knows nothing of files, towers or collections.

What a tower does not read is in no vector: two notes that differ only behind its limit have the same one. So a text is
cut where the model's own tokenizers say that it has to be, at the end of a paragraph or a sentence where one is near.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from indexer.limits import MediaLimits
from indexer.media.stopwatch import Stopwatch
from indexer.media.text.decode import BLOCK_CHARS, Cut, paragraphs, passages, words_of
from indexer.media.text.measure import MeasuresTexts, TextMeasure

#: A tokenizer may take a word that it does not know for one token, however long it is.
_CHARS_PER_TOKEN = 8
#: A window that is measured first is so much longer than what was read of the last one.
_MORE = 1.25
#: An end mark of a sentence, closing quotes, white space; or one of a script that puts no space after it. Possessive
#: and from the first mark of a row, so that no text takes more time than in proportion to its length.
_SENTENCE_END = re.compile(r"(?<![.!?…؟۔।॥])[.!?…؟۔।॥]++[\"'”’»)\]]*+\s|[。！？｡]++[”’」』）]*+|\n")


@dataclass(frozen=True, slots=True)
class PassageRule:
    """How the texts of a collection are cut; part of what the collection is.

    A passage has ``tokens`` at most, or as many as the model reads where that is less. Where one ends within a
    paragraph, up to the share ``overlap`` of it is the beginning of the next one too.
    """

    tokens: int = 256
    overlap: float = 0.25

    def line(self) -> str:
        """The same for people."""
        return f"{self.tokens} of the model's own tokens at most, less where it reads less at once"

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, int) or self.tokens < 1 or not 0.0 <= self.overlap <= 0.5:
            raise ValueError(f"no rule for passages: {self.tokens} tokens, an overlap of {self.overlap}")


def passages_line(rule: PassageRule | None) -> str:
    """How texts are cut, for ``info``."""
    if rule is not None:
        return rule.line()
    return (
        "600 characters, whatever the model reads of them: what is beyond its limit is not found; "
        "cut them by its tokens: trimodal index --rebuild PATH..."
    )


def rule_of(encoder: object) -> PassageRule | None:
    """The rule of a new collection; ``None``, by characters, where the model can't say what it reads."""
    return PassageRule() if isinstance(encoder, MeasuresTexts) else None


def cut_by(rule: PassageRule | None, encoder: object) -> Cut:
    """What cuts the texts of a collection. The model's tokenizers are opened by the first text."""
    return passages if rule is None or not isinstance(encoder, MeasuresTexts) else _CutByTokens(rule, encoder)


class _CutByTokens:
    def __init__(self, rule: PassageRule, encoder: MeasuresTexts) -> None:
        self._rule = rule
        self._encoder = encoder
        self._measure: TextMeasure | None = None
        self._lock = threading.Lock()

    def __call__(self, text: str, limits: MediaLimits, watch: Stopwatch | None = None) -> list[str]:
        with self._lock:
            if self._measure is None:
                waited = watch.pause() if watch is not None else 0.0
                self._measure = self._encoder.open_text_measure()
                if watch is not None:
                    watch.resume(waited)
        return token_passages(text, self._rule, self._measure, watch)


def token_passages(text: str, rule: PassageRule, measure: TextMeasure, watch: Stopwatch | None = None) -> list[str]:
    """Passages in order, none of which the model cuts; [] for white space.

    White space becomes single spaces, and a line end between paragraphs. A passage ends where a paragraph does, if that
    makes it at least half as long as it may be; else where a sentence does, else at a space, else anywhere. It then
    begins the next one with its last sentences, or with its last words. No character but white space is lost. Takes
    time in proportion to the text.
    """
    cutting = _Cutting(rule, measure)
    found: list[str] = []
    rest = ""
    for block in _blocks(text):
        cutting.text = rest + block
        found += cutting.passages(watch, is_last=False)
        rest = cutting.rest()
    cutting.text = rest
    return [*found, *cutting.passages(watch, is_last=True)]


class _Cutting:
    """Cuts a text that comes in blocks."""

    def __init__(self, rule: PassageRule, measure: TextMeasure) -> None:
        self._measure = measure
        self._overlap = rule.overlap
        self._most = min(rule.tokens, measure.max_tokens)
        self._widest = _CHARS_PER_TOKEN * self._most
        self._guess = 4 * self._most
        """Characters that are measured at first."""
        self.text = ""
        self._start = 0
        """Where the next passage begins."""
        self._done = 0
        """What is before this is in a passage."""

    def rest(self) -> str:
        """What is not in a passage yet, and what the next one begins with."""
        rest = self.text[self._start :]
        self._done -= self._start
        self._start = 0
        return rest

    def passages(self, watch: Stopwatch | None, *, is_last: bool) -> Iterator[str]:
        """The passages of ``text``, but for those that what follows may lengthen, unless it ``is_last``."""
        while self._skip_spaces() < len(self.text) and (is_last or len(self.text) - self._start > self._widest):
            end = self._end()
            is_end = end == len(self.text)
            if self._start < self._done and (end <= self._done or not (is_end or self._is_new_enough(end))):
                self._start = self._done  # what it shares with the last one leaves no room
                continue
            yield self.text[self._start : end].strip()
            if watch is not None:
                watch.cut_chars += end - self._done
                watch.check()
            self._start = self._next_start(end)
            self._done = end

    def _skip_spaces(self) -> int:
        """Where the next character is that is in no passage."""
        while self._done < len(self.text) and self.text[self._done] in " \n":
            self._done += 1
        if self._start >= self._done or not self.text[self._start : self._done].strip():
            self._start = self._done
        return self._done

    def _is_new_enough(self, end: int) -> bool:
        return end - self._done >= self._done - self._start

    def _end(self) -> int:
        """Where the passage ends that begins at ``_start``."""
        fits = self._fitting()
        while True:
            end = self._boundary(self._start + fits)
            piece = self.text[self._start : end].strip()
            read = self._measure.read_chars(piece, self._most)
            if read >= len(piece) or end - self._start <= 1:
                return end
            fits = max(1, min(read, end - self._start - 1))

    def _fitting(self) -> int:
        """How many characters from ``_start`` on are read."""
        window = self.text[self._start : self._start + self._widest]
        size = min(len(window), self._guess)
        while (read := self._measure.read_chars(window[:size], self._most)) == size < len(window):
            size = min(len(window), 2 * size)
        self._guess = max(64, int(_MORE * read))
        return read

    def _boundary(self, limit: int) -> int:
        """The best place to end a passage that may go up to ``limit``."""
        text, start = self.text, self._start
        if limit >= len(text):
            return len(text)
        room = limit - start
        paragraph = text.rfind("\n", start + room // 2, limit + 1)
        if paragraph > 0:
            return paragraph
        least = start + room // 4
        sentence = 0
        for found in _SENTENCE_END.finditer(text, start, limit + 1):
            end = found.end() - text[found.end() - 1].isspace()
            if end <= limit:
                sentence = end
        if sentence > least:
            return sentence
        space = text.rfind(" ", least, limit + 1)
        return space if space > least else limit

    def _next_start(self, end: int) -> int:
        """Where the passage after one that ends at ``end`` begins."""
        if end >= len(self.text) or self.text[end] == "\n" or not self._overlap:
            return end
        shared = int(self._overlap * (end - self._start))
        for found in _SENTENCE_END.finditer(self.text, end - shared, end):
            if found.end() < end and self.text[found.end() : end].strip():
                return found.end()
        half = end - shared // 2
        space = self.text.find(" ", half, end)
        if space < 0:
            space = self.text.rfind(" ", end - shared, half)
        if space >= 0:
            return space + 1
        has_spaces = self.text.find(" ", self._start, end) >= 0
        return end if has_spaces else half  # the next one is not to begin within a word


def _blocks(text: str) -> Iterator[str]:
    """The words of the text with single spaces, paragraphs with a line end between, some thousand words at a time."""
    parts: list[str] = []
    size = 0
    is_first = True
    for start, end in paragraphs(text):
        is_begun = False
        for words in words_of(text, start, end):
            parts.append(words if is_first else (" " if is_begun else "\n") + words)
            is_first, is_begun = False, True
            size += len(parts[-1])
            if size >= BLOCK_CHARS:
                yield "".join(parts)
                parts, size = [], 0
    yield "".join(parts)
