"""The language model that judges pairs of a text and media tokens: match logits, rows of the joint space, guesses.

Knows nothing of collections or of search; weights are read on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

from indexer.encoders.devices import choose_device, choose_dtype, mixed_precision
from indexer.encoders.specs import LoraSpec
from indexer.encoders.tokens.compressor import Compressor, fill_part, load_compressor
from indexer.encoders.tokens.config import CONFIG, FOLDER, LORA, WEIGHTS, RerankerConfig, write_reranker
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.encoders.towers.load import language_model_directory
from indexer.encoders.weights.base_weights import sha256_of
from indexer.errors import ModelError
from indexer.items import Embeddings, Modality
from retrieval.rerank.guesses import Guess, naming_probability, weighed
from retrieval.rerank.names import NAMES, Names, load_names
from retrieval.rerank.reader import Reader, TextStates, text_sources
from retrieval.rerank.scorer import Scorer, ScorerSpec

_PAIRS = 256  # that go through the language model at once
_CAPTIONED_AT_ONCE = 32  # pictures; their keys and values stay in memory meanwhile
_KEPT_TEXTS = 4096  # of about 20 kB each
#: Nearest names that the language model chooses from.
_NAMES_READ = 8


class PairModel:
    """A reranker's language model, cross-attention and match head, of a model's directory."""

    def __init__(self, model: Path, config: RerankerConfig, device: str = "auto", *, exact: bool = False) -> None:
        """``exact``: float32 whatever the hardware multiplies, with little memory and slowly."""
        self._exact = exact
        self._model = model
        self.config = config
        self._device_name = device
        self._read: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    @property
    def token_spec(self) -> TokenSpec:
        """The tokens that it reads."""
        return self.config.token_spec

    @torch.inference_mode()
    def read(self, texts: Sequence[str]) -> None:
        """Keep the states of texts, up to 4,096 of them."""
        reader, _ = self.language
        some = list(dict.fromkeys(texts))[:_KEPT_TEXTS]
        for text in some:  # these are the last to be dropped
            if (kept := self._read.pop(text, None)) is not None:
                self._read[text] = kept
        for start in range(0, len(some), 32):
            self._states(reader, some[start : start + 32])

    @torch.inference_mode()
    def score_media(self, text: str, tokens: TokenRows, modality: Modality = Modality.IMAGE) -> NDArray[np.float32]:
        """One text against ``(n, row_bytes)`` -> float32 ``(n,)``."""
        reader, scorer = self.language
        states = self._states(reader, [text])
        found = []
        for start in range(0, len(tokens), _PAIRS):
            media = self._media(tokens[start : start + _PAIRS])
            found.append(self._judge(scorer, reader, states, media[None])[0])
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    @torch.inference_mode()
    def score_texts(
        self, tokens: TokenRows, texts: Sequence[str], modality: Modality = Modality.IMAGE
    ) -> NDArray[np.float32]:
        """One picture ``(1, row_bytes)`` against texts -> float32 ``(n,)``; texts of near lengths run together."""
        reader, scorer = self.language
        media = self._media(tokens)
        found = np.zeros(len(texts), np.float32)
        order = sorted(range(len(texts)), key=lambda n: len(reader.token_ids(texts[n])))
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            states = self._states(reader, [texts[n] for n in some])
            pairs = media[None].expand(len(some), -1, -1, -1)
            found[some] = self._judge(scorer, reader, states, pairs)[:, 0]
        return found

    @torch.inference_mode()
    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """A text against texts -> float32 ``(n,)``: they read the first one's tokens as they read a picture's."""
        reader, _ = self.language
        states = self._states(reader, [text])
        with self._mixed():
            last = reader.last(states).float()
            tokens = self._text_compressor(text_sources(last, states)).float()
        return self.score_texts(self.token_spec.pack(tokens.cpu().numpy()), texts, Modality.TEXT)

    @torch.inference_mode()
    def joint_texts(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.float32]:
        """Texts read without media, in the joint space: unit rows float32 ``(n, joint)``."""
        reader, scorer = self.language
        found = np.zeros((len(texts), scorer.spec.joint), np.float32)
        order = sorted(range(len(texts)), key=lambda n: len(reader.token_ids(texts[n])))
        for start in range(0, len(order), 64):
            some = order[start : start + 64]
            with self._mixed():
                rows = scorer.joint_texts(reader.last(reader.states([texts[n] for n in some])))
            found[some] = rows.float().cpu().numpy()
            on_progress(start + len(some))
        return found

    @torch.inference_mode()
    def guess(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[Guess]:
        """Words for each row of tokens ``(n, row_bytes)``; ``vectors`` ``(n, dim)``: the dual encoder's of the same.

        Where the model has names, one of the nearest to the picture: that which is nearest and which the language model
        would most likely write of it; unsure below the least probability of ``reranker.json``, where that has one. Else
        by beam search; scores are divided by the length.
        """
        from retrieval.rerank.captioning import beam_search, likeliest

        names = self._names
        reader, scorer = self.language
        media = self._media(tokens)
        found: list[Guess] = []
        for start in range(0, len(media), _CAPTIONED_AT_ONCE):
            some = media[start : start + _CAPTIONED_AT_ONCE]
            if names is None:
                with self._mixed():
                    found += [weighed(words) for words in beam_search(reader, scorer, some, beams, max_words)]
                continue
            with self._mixed():
                rows = scorer.joint_media(some).float().cpu().numpy()
            own = None if vectors is None else vectors[start : start + _CAPTIONED_AT_ONCE]
            candidates = names.nearest(rows, own, _NAMES_READ)
            self._states(reader, [name for near in candidates for name, _ in near])  # many at once are read faster
            for one, near in zip(some, candidates, strict=True):
                if not near:  # no name of the file may be in a caption
                    found.append(Guess(""))
                    continue
                states = self._states(reader, [name for name, _ in near])
                with self._mixed():
                    place = likeliest(reader, scorer, states, one, [cosine for _, cosine in near])
                found.append(self._weighed(near, place))
        return found

    def _weighed(self, near: Sequence[tuple[str, float]], place: int) -> Guess:
        """The guess that the name at ``place`` of the nearest ones is; ``near``: names with cosines, best first."""
        words, nearness = near[place]
        naming = self.config.naming
        if naming is None:
            return weighed(words)
        return weighed(words, naming_probability(naming, nearness), naming["least"])

    def _states(self, reader: Reader, texts: Sequence[str]) -> TextStates:
        """Of texts after the lower layers; the latest stay in memory, as captions come again."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._read]
        for start in range(0, len(missing), 32):
            part = missing[start : start + 32]
            fresh = reader.states(part)
            for row, text in enumerate(part):
                length = int(fresh.lengths[row])
                one = (fresh.hidden[row, :length].clone(), fresh.ids[row, :length], fresh.own[row, :length])
                self._read[text] = one
        rows = [self._read[text] for text in texts]
        while len(self._read) > _KEPT_TEXTS:
            del self._read[next(iter(self._read))]
        hidden, ids, own = (pad_sequence(list(parts), batch_first=True) for parts in zip(*rows, strict=True))
        lengths = torch.tensor([len(row[1]) for row in rows], device=ids.device)
        return TextStates(hidden, lengths, ids, own)

    def _media(self, tokens: TokenRows) -> torch.Tensor:
        return torch.from_numpy(self.token_spec.unpack(tokens)).to(self._device)

    def _judge(self, scorer: Scorer, reader: Reader, states: Any, media: torch.Tensor) -> NDArray[np.float32]:
        with self._mixed():
            return np.asarray(scorer(reader, states, media).float().cpu().numpy(), dtype=np.float32)

    @cached_property
    def _names(self) -> Names | None:
        if not self.config.names:
            return None
        path = self._model / FOLDER / NAMES
        if not path.is_file() or sha256_of(path) != self.config.names:
            raise ModelError(
                f"{path}: is missing or not the one that {CONFIG} names; fetch the model again, or make it anew: "
                f"trimodal train names FILE --model {self._model}"
            )
        return load_names(path)

    @cached_property
    def _text_compressor(self) -> Compressor:
        return load_compressor(self._model, self.config, Modality.TEXT).to(self._device)

    @cached_property
    def _device(self) -> torch.device:
        return choose_device(self._device_name)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32 if self._exact else choose_dtype(self._device)

    def _mixed(self) -> torch.autocast:
        return torch.autocast(self._device.type, enabled=False) if self._exact else mixed_precision(self._device)

    @cached_property
    def language(self) -> tuple[Reader, Scorer]:
        """The language model and the match head, loaded."""
        settings = dict(self.config.language_model)
        directory = language_model_directory(settings.pop("source"), fetch=False)
        reader = Reader(directory, **settings, dtype=self._dtype, streamed=self._exact)
        if self.config.lora is not None:
            reader.add_lora(LoraSpec(**{**self.config.lora, "targets": tuple(self.config.lora["targets"])}))
            fill_part(self._model, self.config, LORA, reader.upper_layers)
            reader.merge_lora()
        reader.to(self._device)
        scorer = Scorer(ScorerSpec(**self.config.scorer))
        fill_part(self._model, self.config, "scorer", scorer)
        return reader, scorer.to(self._device).eval()


def save_reranker(
    model: Path, config: RerankerConfig, parts: Mapping[str, Mapping[str, torch.Tensor]]
) -> RerankerConfig:
    """Write the states of compressors, ``scorer`` and perhaps ``lora`` as float16 with ``reranker.json``.

    Returns the config with the digest of the weights.
    """
    from dataclasses import replace

    folder = model / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{name}.{key}": value.detach().half().contiguous()
        for name, state in parts.items()
        for key, value in state.items()
    }
    save_file(weights, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
    config = replace(config, sha256=sha256_of(folder / WEIGHTS))
    write_reranker(model, config)
    return config
