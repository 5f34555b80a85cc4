"""The text tower: pretrained language models, each read out to one feature row a text.

A causal LM never had a sentence-level objective, and the mean of its token states is poor; prompted to say a text "in
one word", the state of the last token gathers its meaning (PromptEOL, Jiang et al. 2023). Without its causal mask and
with some training the mean becomes good (LLM2Vec, BehnamGhader et al. 2024; LLM2CLIP). A sentence encoder of the BERT
family is read by the mean of its tokens. Which of these a tower does is its spec and part of the fingerprint. Knows
nothing of pictures or of the shared space.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from indexer.encoders.specs import LoraSpec, TextSpec
from indexer.encoders.text_gate import TextGate, joined_features
from indexer.encoders.text_reading import equal_lengths, tower_words
from indexer.encoders.towers.adapter import (
    add_lora,
    lora_facts,
    lora_layers,
    merge_lora,
    put_trained,
    read_trained,
    save_trained,
)
from indexer.encoders.towers.language_model import open_language_model
from indexer.encoders.weights.library_errors import stated_errors
from indexer.errors import ModelError, WeightsCorrupt
from indexer.media.text.measure import LeastMeasure, TextMeasure, TokenizerMeasure

_BATCH_TOKENS = 16_384  # of one inference batch: bounds memory, 1 GB for a model of width 576


class TextTower(nn.Module):
    """A language model with its read-out: ``width`` features a text; locked until :meth:`unlock`.

    What is read (``own`` tokens): of a decoder the text's tokens, not the prompt's nor special ones; of a BERT-family
    encoder also the special ones around it, so that ``mean`` without a prompt is exactly sentence-transformers' mean
    pooling over all tokens that are not padding (all-MiniLM-L6-v2 and its like; without their final L2 norm).
    ``last`` is the last token of all: the prompt's end, or ``[SEP]``.
    """

    def __init__(self, spec: TextSpec, directory: Path) -> None:
        """``directory``: see :func:`indexer.encoders.towers.language_model.open_language_model`, also for what it
        raises.

        :class:`ModelError` too for a prompt without ``{text}``, more layers than there are, more tokens than the
        model has positions for, or a causal mask that can't be taken away. ``spec.adapter`` is not read here; see
        :meth:`load_adapter`.
        """
        super().__init__()
        before, found, after = spec.prompt.partition("{text}")
        if not found:
            raise ModelError(f"prompt {spec.prompt!r} has no {{text}}")
        self.spec = spec
        self._language_model = language_model = open_language_model(directory, layers=spec.layers)
        language_model.keep_layers(spec.layers)
        self.model: nn.Module = language_model.model
        self.tokenizer = language_model.tokenizer
        self.before: list[int] = [*language_model.prefix, *self._tokenize(before)]
        self.after: list[int] = [*self._tokenize(after), *language_model.suffix]
        self.width = language_model.width
        longest, limit = len(self.before) + spec.max_tokens + len(self.after), language_model.max_tokens
        if limit is not None and longest > limit:
            raise ModelError(
                f"language model {directory}: max_tokens {spec.max_tokens} and the prompt make {longest} tokens, over "
                f"its {limit}; lower max_tokens"
            )
        self.query = nn.Parameter(torch.zeros(self.width)) if spec.readout == "learned" else None
        self._with_head: Any = None
        self._lora: LoraSpec | None = None
        self.eval().requires_grad_(False)
        self._bidirectional = spec.attention == "bidirectional" and not language_model.is_encoder
        if self._bidirectional:
            self._check_that_the_mask_is_gone()

    def token_ids(self, text: str) -> list[int]:
        """The tokens that the model reads for a text: prompt, text (cut to ``max_tokens``), rest of the prompt.

        Special tokens of the tokenizer, where it has any, stand around the whole. An empty text reads as a space, so
        that it has a state of its own.
        """
        words = self._words(text)
        ids = [*self.before, *self._tokenize(words or " ")[: self.spec.max_tokens], *self.after]
        return ids or [self._language_model.pad_id]  # a tokenizer may make nothing of a space

    def measure(self) -> TextMeasure:
        """What :meth:`token_ids` leaves of a text."""
        return TokenizerMeasure(self.tokenizer, self.spec.max_tokens, self._words)

    def _words(self, text: str) -> str:
        return tower_words(text, self.spec)

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> float32 ``(n, width)``, not normalised, in input order; differentiable in what is unlocked.

        Texts of near lengths go through together, padded on the right; padding is masked and changes no row.
        """
        if not texts:
            return torch.zeros((0, self.width), device=self._device)
        sequences = [self.token_ids(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda position: len(sequences[position]))
        rows = []
        for group in _near_lengths([sequences[position] for position in order]):
            ids, mask = _pad(group, self._language_model.pad_id, self._device)
            rows.append(self._read(self._states(ids, mask), [len(sequence) for sequence in group]))
        places = torch.empty(len(order), dtype=torch.long, device=self._device)
        places[order] = torch.arange(len(order), device=self._device)
        return torch.cat(rows)[places]

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts -> float32 ``(n, width)``, not normalised, in input order; without gradients or dropout.

        Texts are run by groups of equal length, so a text's row does not depend on its neighbours' padding.
        """
        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        sequences = [self.token_ids(text) for text in texts]
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                for chunk in equal_lengths(sequences, _BATCH_TOKENS):
                    ids = torch.tensor([sequences[p] for p in chunk], device=self._device)
                    rows[chunk] = self._read(self._states(ids, None), [ids.shape[1]] * len(chunk)).cpu().numpy()
        finally:
            self.train(was_training)
        return rows

    def lm_loss(self, texts: Sequence[str]) -> torch.Tensor:
        """Mean next-token cross-entropy of the plain texts, nats a token, a scalar; differentiable.

        No prompt; special tokens as the tokenizer adds them; cut to ``max_tokens``. The mask is causal whatever the
        tower's ``attention``. The head (tied or its own, always locked) is read at the first call. Texts of a single
        token predict nothing; 0 if all are such. Raises :class:`ModelError` for an encoder.
        """
        if self._with_head is None:
            self._with_head = self._language_model.with_head()
        prefix, suffix = self._language_model.prefix, self._language_model.suffix
        sequences = [
            [*prefix, *self._tokenize(" ".join(text.split()))[: self.spec.max_tokens], *suffix] for text in texts
        ]
        sequences = [sequence for sequence in sequences if len(sequence) > 1]
        if not sequences:
            nothing = [parameter.sum() * 0 for parameter in self.parameters() if parameter.requires_grad]
            return torch.stack(nothing).sum().float() if nothing else torch.zeros((), device=self._device)
        ids, mask = _pad(sequences, self._language_model.pad_id, self._device)
        logits = self._with_head(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
        target = ids.masked_fill(~mask, -100)[:, 1:]
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), target.flatten(), ignore_index=-100)

    def unlock(self, lora: LoraSpec | None, last_layers: int = 0) -> None:
        """Make LoRA adapters, the last layers with the final norm, and a learned query trainable; all else is locked.

        Nothing that the tower gives changes by it. Move the tower to its device and dtype first: adapters and query
        are float32 also in a bfloat16 tower. Unlocked layers want a float32 tower, or autocast. Raises
        :class:`ModelError` for an unknown target, more layers than are kept, or a tower that has adapters already.
        """
        if self._lora is not None:
            raise ModelError(f"text tower {self.spec.source}: has LoRA adapters already; open it anew to change them")
        language_model = self._language_model
        self.requires_grad_(False)
        if lora is not None:
            _ = language_model.layers  # a stated error where they are unknown
            add_lora(self.model, language_model.stack, lora)
            self._lora = lora
        if last_layers:
            layers = language_model.layers
            if not 0 < last_layers <= len(layers):
                raise ModelError(
                    f"text tower {self.spec.source}: keeps {len(layers)} layers, can't unlock {last_layers}"
                )
            for layer in layers[-last_layers:]:
                layer.requires_grad_(True)
            if (norm := language_model.final_norm()) is not None:
                norm.requires_grad_(True)
        if self.query is not None:
            self.query.data = self.query.data.float()
            self.query.requires_grad_(True)
        self.train(self.training)

    def trained_state(self) -> dict[str, torch.Tensor]:
        """What is trainable by name: adapters, unlocked layers, the learned query. Not copies."""
        return {name: parameter.data for name, parameter in self.named_parameters() if parameter.requires_grad}

    def save_adapter(self, path: Path) -> str:
        """Write :meth:`trained_state` as float16 safetensors that names its base; return the file's sha256."""
        return save_trained(path, self.trained_state(), {"source": self.spec.source, **self._facts(self._lora)})

    def load_adapter(self, path: Path, *, merge: bool = True) -> None:
        """Put into the tower what :meth:`save_adapter` wrote, and fold LoRA (of ``spec.lora``) into the weights.

        Afterwards all is locked. ``merge=False`` keeps the adapters and leaves what was trained trainable, to continue.
        Raises :class:`WeightsMissing`, or :class:`WeightsCorrupt` where the file is not of this tower.
        """
        lora = self.spec.lora
        state = read_trained(path, self._facts(lora))
        if self._lora is None:
            self.unlock(lora)
        elif lora_facts(self._lora) != lora_facts(lora):
            raise WeightsCorrupt(f"{path}: is for adapters of {lora}, the tower has {self._lora}; open the tower anew")
        put_trained(self, state, path)
        self.requires_grad_(False)
        if merge:
            merge_lora(self.model)
            self._lora = None
        else:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name in state)

    def train(self, mode: bool = True) -> TextTower:
        """Switch LoRA's dropout on or off. The language model's own dropout stays off: nothing enables it."""
        super().train(False)
        self.training = mode
        for _, layer in lora_layers(self.model):
            layer.train(mode)
        return self

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
        return ids

    def _facts(self, lora: LoraSpec | None) -> dict[str, Any]:
        """What must agree between a tower and an adapter's file; the source may have moved since."""
        return {
            "architecture": self._language_model.model.config.model_type,
            "width": self.width,
            "layers": self.spec.layers,
            "readout": self.spec.readout,
            "lora": lora_facts(lora),
        }

    def _states(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids ``(n, t)`` -> states ``(n, t, width)``; ``mask`` ``(n, t)`` is true on tokens, ``None``: on all."""
        if not self._bidirectional:
            attention = mask.long() if mask is not None else None
            return self._run(input_ids=ids, attention_mask=attention)
        # transformers takes a four-dimensional mask as it is, in place of its causal one; 0 where a token may look
        count, length = ids.shape
        dtype = next(self.model.parameters()).dtype
        full = torch.zeros((count, 1, length, length), dtype=dtype, device=ids.device)
        if mask is not None:
            full = full.masked_fill(~mask[:, None, None, :], torch.finfo(dtype).min)
        if not self._language_model.takes_position_ids:
            return self._run(input_ids=ids, attention_mask=full)
        positions = torch.arange(length, device=ids.device).expand(count, length)
        return self._run(input_ids=ids, attention_mask=full, position_ids=positions)

    def _run(self, **inputs: Any) -> torch.Tensor:
        if not self._language_model.is_encoder:
            inputs["use_cache"] = False
        states: torch.Tensor = self.model(**inputs).last_hidden_state
        return states

    def _read(self, states: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """States ``(n, t, width)`` -> float32 ``(n, width)``."""
        states = states.float()
        if self.spec.readout == "last":
            last = torch.tensor(lengths, device=states.device) - 1
            return states[torch.arange(len(lengths), device=states.device), last]
        own = self._own(lengths, states.shape[1]).to(states.device)  # (n, t)
        if self.query is None:
            weights = own / own.sum(dim=1, keepdim=True)
        else:
            scores = states @ self.query.float() / math.sqrt(self.width)
            weights = scores.masked_fill(~own, -torch.inf).softmax(dim=1)
        return (weights.unsqueeze(1) @ states).squeeze(1)  # (n, 1, t) @ (n, t, width)

    def _own(self, lengths: list[int], longest: int) -> torch.Tensor:
        """Which tokens are read by ``mean`` and ``learned``: bool ``(n, longest)``, at least one in a row."""
        own = torch.zeros((len(lengths), longest), dtype=torch.bool)
        prefix, suffix = self._language_model.prefix, self._language_model.suffix
        for row, length in zip(own, lengths, strict=True):
            row[len(self.before) : length - len(self.after)] = True
            if self._language_model.is_encoder:
                row[: len(prefix)] = True
                row[length - len(suffix) : length] = True
            if not row.any():
                row[length - 1] = True  # a text of no token at all
        return own

    @torch.inference_mode()
    def _check_that_the_mask_is_gone(self) -> None:
        """An architecture that ignores the mask must not pass for a bidirectional one."""
        place = self._language_model.directory
        ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=self._device)
        with stated_errors(f"{place} with attention = bidirectional"):
            first = self._states(ids, None)[:, 0]
        if torch.equal(first[0], first[1]):
            kind = type(self.model).__name__
            raise ModelError(f"language model {place}: a {kind} can't be made bidirectional; use attention = native")


class TextTowers(nn.Module):
    """Text towers side by side: their features joined, ``width`` the sum of theirs."""

    def __init__(self, towers: Sequence[TextTower], gate: TextGate | None = None) -> None:
        """At least one tower; ``gate`` is for :meth:`features` alone."""
        super().__init__()
        if not towers:
            raise ModelError("a text tower needs at least one language model")
        self.towers = nn.ModuleList(towers)
        self.gate = gate
        self.width = sum(tower.width for tower in towers)

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> float32 ``(n, width)``; see :meth:`TextTower.forward`."""
        return torch.cat([tower(texts) for tower in self.towers], dim=1)

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts -> float32 ``(n, width)``; see :meth:`TextTower.features`."""
        return joined_features(list(self), texts, self.gate)

    def measure(self) -> TextMeasure:
        """What every tower reads of a text."""
        return LeastMeasure([tower.measure() for tower in self])

    def __iter__(self) -> Iterator[TextTower]:
        for tower in self.towers:
            assert isinstance(tower, TextTower)
            yield tower


def _pad(sequences: list[list[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids -> ``(n, longest)`` ids and a bool mask that is true on tokens."""
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.tensor([[*sequence, *[pad_id] * (longest - len(sequence))] for sequence in sequences], device=device)
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
    return ids, torch.arange(longest, device=device) < lengths[:, None]


def _near_lengths(rising: list[list[int]]) -> Iterator[list[list[int]]]:
    """Sequences of rising length in groups whose longest is at most a quarter and two tokens over the shortest."""
    start = 0
    for end in range(1, len(rising) + 1):
        if end == len(rising) or len(rising[end]) > 1.25 * len(rising[start]) + 2:
            yield rising[start:end]
            start = end
