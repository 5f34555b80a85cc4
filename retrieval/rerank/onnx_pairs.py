"""What judges pairs without torch: a reranker's graphs in ONNX Runtime, from the language model's own 4 bits.

A text is read once: what its pairs need of it stays in memory. Knows nothing of how graphs are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.lower_reader import LowerReader
from indexer.encoders.onnx.packed import run_packed
from indexer.encoders.onnx.session import GraphSession
from indexer.encoders.tokens.config import RerankerConfig
from indexer.encoders.tokens.format import TokenRows
from indexer.items import Modality
from retrieval.rerank.text_prompt import TextPrompt

Floats = NDArray[np.float32]

_PAIRS = 256  # that are judged at once
#: Tokens of texts that stay in memory, of about 8 kB each: those of some 4,000 short texts.
_KEPT_TOKENS = 40_000

PREFIX = "prefix.npz"


@dataclass(frozen=True, eq=False)
class ReadText:
    """What pairs need of a text: its last token, and what that and the media read of the tokens before it."""

    final: Floats
    """State of the last token after the lower layers ``(width,)``."""
    kept: Floats
    """Keys and values of the upper layers ``(2 * layers, kv_heads, tokens, per_head)``; without the last token."""
    back: Floats
    """Keys and values that the media read ``(2, tokens, media_width)``, without the last token; or of no width."""
    last: Floats
    """Normed state of the last token without media ``(width,)``."""
    mean: Floats
    """Of the text's own tokens after the lower layers ``(width,)``."""

    @property
    def tokens(self) -> int:
        """The text's, without those before every text and without the last."""
        return int(self.kept.shape[2])


class OnnxPairModel:
    """A reranker's graphs in ``folder``, over the lower layers of ``lower``; opened on first use."""

    def __init__(
        self, config: RerankerConfig, folder: Path, lower: LowerReader, prompt: TextPrompt, remedy: str
    ) -> None:
        """``remedy`` is for a graph that can't be run."""
        self.config = config
        self._folder = folder
        self._upper, self._judging, self._joint, self._compressor = (
            GraphSession(folder / f"{name}.onnx", remedy, prepack=True)
            for name in ("upper", "judge", "joint", "compressor")
        )
        self.lower = lower
        self.prompt = prompt
        self._read: dict[str, ReadText] = {}

    def read(self, texts: Sequence[str]) -> None:
        """Keep what pairs need of texts, as many as fit."""
        self._texts(texts)

    def score_media(self, text: str, tokens: TokenRows, modality: Modality = Modality.IMAGE) -> Floats:
        """One text against ``(n, row_bytes)`` -> float32 ``(n,)``."""
        del modality  # pictures and sounds are judged alike
        media = self.config.token_spec.unpack(tokens)
        return self._judge(self._texts([text]), np.zeros(len(media), np.int64), media)

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality = Modality.IMAGE) -> Floats:
        """One picture ``(1, row_bytes)`` against texts -> float32 ``(n,)``."""
        del modality
        media = self.config.token_spec.unpack(tokens)
        return self._judge(
            self._texts(texts), np.arange(len(texts)), np.broadcast_to(media, (len(texts), *media.shape[1:]))
        )

    def score_pairs(self, text: str, texts: Sequence[str]) -> Floats:
        """A text against texts -> float32 ``(n,)``: they read the first one's tokens as they read a picture's."""
        (one,) = self._texts([text])
        (tokens,) = self._compressor.run(["out"], {"rows": np.concatenate([one.last, one.mean])[None]})
        return self.score_texts(self.config.token_spec.pack(tokens), texts, Modality.TEXT)

    def joint_texts(self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None) -> Floats:
        """Texts read without media, in the joint space: unit rows float32 ``(n, joint)``."""
        found = np.zeros((len(texts), int(self.config.scorer["joint"])), np.float32)
        done = 0
        for some, read in self._fresh(texts):
            (rows,) = self._joint.run(["out"], {"last": np.stack([one.last for one in read])})
            found[some] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            done += len(some)
            on_progress(done)
        return found

    def token_ids(self, text: str) -> list[int]:
        """All tokens that the language model reads for a text."""
        return [*self.prompt.before, *self.prompt.own(text), *self.prompt.after]

    def _texts(self, texts: Sequence[str]) -> list[ReadText]:
        """Of texts what pairs need; the latest stay in memory, as captions come again."""
        wanted = list(dict.fromkeys(texts))
        found = {text: kept for text in wanted if (kept := self._read.pop(text, None)) is not None}
        missing = [text for text in wanted if text not in found]
        for some, read in self._fresh(missing):
            found.update((missing[place], one) for place, one in zip(some, read, strict=True))
        self._read.update(found)  # these are the last to be dropped
        tokens = sum(one.tokens for one in list(self._read.values()))
        for text in list(self._read):
            if tokens <= _KEPT_TOKENS:
                break
            dropped = self._read.pop(text, None)  # another thread may have been first
            tokens -= 0 if dropped is None else dropped.tokens
        return [found[text] for text in texts]

    def _fresh(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[ReadText]]]:
        """Read texts: parts of them, by their places, with what pairs need."""
        after = self.prompt.after
        own = [self.prompt.own(text) for text in texts]
        outputs = ["out", "present", *(["back_keys", "back_values"] if self._goes_back else [])]
        for some, states in self.lower.states([[*ids, *after] for ids in own], self._prefix["lower"]):
            lengths = [len(own[place]) + len(after) for place in some]
            upper = run_packed(self._upper, states, lengths, self._prefix["past"], outputs)
            back = np.zeros((2, len(states), 0), np.float32)
            if self._goes_back:
                back = np.stack([upper["back_keys"][0], upper["back_values"][0]])
            read = []
            start, before = 0, len(self.prompt.before)
            for length in lengths:
                end = start + length - 1  # the last token
                kept = upper["present"][:, :, before + start : before + end].copy()
                mean = states[start : max(start, end - len(after)) + 1].mean(axis=0)
                read.append(
                    ReadText(states[end].copy(), kept, back[:, start:end].copy(), upper["out"][0, end].copy(), mean)
                )
                start += length
            yield some, read

    def _judge(self, texts: Sequence[ReadText], which: NDArray[np.int64], media: Floats) -> Floats:
        """Pairs of ``texts[which]`` and media ``(n, count, media_width)`` -> logits float32 ``(n,)``."""
        found = [np.zeros(0, np.float32)]
        for start in range(0, len(media), _PAIRS):
            some = which[start : start + _PAIRS]
            rows, places = np.unique(some, return_inverse=True)
            inputs = self._inputs([texts[row] for row in rows.tolist()], places)
            inputs["media"] = np.ascontiguousarray(media[start : start + _PAIRS])
            found += self._judging.run(["out"], inputs)
        return np.concatenate(found)

    def _inputs(self, texts: Sequence[ReadText], places: NDArray[np.int64]) -> dict[str, Any]:
        """Of pairs all but the media; ``places``: which text each has."""
        past = self._prefix["past"]
        before, longest = past.shape[2], max(one.tokens for one in texts)
        # every text behind the tokens that are before all of them, padded on the right
        kept = np.zeros((past.shape[0], len(texts), past.shape[1], before + longest, past.shape[3]), np.float32)
        kept[:, :, :, :before] = past[:, None]
        for place, one in enumerate(texts):
            kept[:, place, :, before : before + one.tokens] = one.kept
        last = before + np.array([one.tokens for one in texts], np.int32)
        inputs = {
            "final": np.stack([one.final for one in texts])[places][:, None],
            "past": kept[:, places],
            "last": last[places],
            "total tokens": np.array([before + longest + 1], np.int32),
        }
        if self._goes_back:
            back = np.zeros((2, len(texts), before + longest, texts[0].back.shape[2]), np.float32)
            back[:, :, :before] = self._prefix["back"][:, None]
            for place, one in enumerate(texts):
                back[:, place, before : before + one.tokens] = one.back
            seen = (np.arange(before + longest)[None] < last[:, None]).astype(np.int32)
            inputs |= {"back_keys": back[0][places], "back_values": back[1][places], "seen": seen[places]}
        return inputs

    @property
    def _goes_back(self) -> bool:
        return bool(self.config.scorer["interaction"] == "bidirectional")

    @cached_property
    def _prefix(self) -> dict[str, Floats]:
        """Of the tokens before every text, in the upper layers: ``past`` and ``back``."""
        with np.load(self._folder / PREFIX, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def save_prefix(folder: Path, config: RerankerConfig, lower: LowerReader, before: Sequence[int]) -> None:
    """Read the tokens before every text, and keep what the texts need of them."""
    states, past = lower.begin(before)
    session = GraphSession(folder / "upper.onnx", "", prepack=True)  # it was made a moment ago
    shape = session.shape("past")
    nothing = np.zeros((shape[0], shape[1], 0, shape[3]), np.float32)
    back = ["back_keys", "back_values"] if config.scorer["interaction"] == "bidirectional" else []
    found = run_packed(session, states, [len(states)], nothing, ["present", *back])
    rows = np.stack([found[name][0] for name in back]) if back else np.zeros((2, len(states), 0), np.float32)
    np.savez(folder / PREFIX, lower=past, past=found["present"], back=rows)
