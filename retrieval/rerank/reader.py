"""The language model that reads the text side of a pair: its first layers once a text, its last layers with media.

A text stands in a prompt. The lower layers never see media, so a text's states after them are computed once. In the
upper layers gated cross-attention stands before every layer (Flamingo, Alayrac et al. 2022): a token reads the media
tokens, then the language model's own layer runs. To judge pairs only the last token of the prompt reads media: the
tokens before it can't look at it (the model is causal), so their keys and values serve every candidate of a query. To
caption, every token from the text on reads them. Knows nothing of media towers, of losses or of files but the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from indexer.encoders.specs import LoraSpec
from indexer.encoders.towers.adapter import add_lora, merge_lora
from indexer.encoders.towers.language_model import LanguageModel, open_language_model
from indexer.errors import ModelError

#: Before layer ``n`` of the upper layers: hidden ``(rows, t, width)`` -> hidden of the same shape.
Interact = Any


@dataclass(frozen=True)
class TextStates:
    """Texts after the lower layers: states ``(n, t, width)`` padded on the right, and how many tokens each has.

    ``ids`` int64 ``(n, t)``; ``own`` bool ``(n, t)`` is true on the tokens of the text itself, without the prompt.
    """

    hidden: torch.Tensor
    lengths: torch.Tensor
    ids: torch.Tensor
    own: torch.Tensor

    def rows(self, numbers: torch.Tensor) -> TextStates:
        """Some of the texts, cut to the longest of them."""
        lengths = self.lengths[numbers]
        longest = int(lengths.max())
        return TextStates(
            self.hidden[numbers, :longest], lengths, self.ids[numbers, :longest], self.own[numbers, :longest]
        )


@dataclass(frozen=True)
class Continuation:
    """Texts of one length that are being generated: states of their last tokens ``(n, width)``, normed, and a cache."""

    last: torch.Tensor
    kept: list[tuple[torch.Tensor, torch.Tensor]]
    """Of every layer, keys and values ``(n, heads, t, d)``."""


class Reader(nn.Module):
    """A causal language model of transformers, cut in two after ``lower`` of its first ``layers`` layers; locked.

    Raises :class:`ModelError` for an encoder, and for an architecture whose layers can't be run one by one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        layers: int,
        lower: int,
        prompt: str,
        max_tokens: int = 32,
        dtype: torch.dtype = torch.float32,
        streamed: bool = False,
    ) -> None:
        """``dtype``: of the weights as they are read, so that a large model is never held twice.

        ``streamed``: the lower layers of a GGUF are read anew each time that they run: slow, and little memory.
        """
        super().__init__()
        language_model: LanguageModel = open_language_model(
            directory, dtype, layers=layers, streamed=lower if streamed else 0
        )
        if language_model.is_encoder:
            raise ModelError(f"language model {directory}: is an encoder; a reranker needs a causal language model")
        language_model.keep_layers(layers)
        kept = language_model.layers
        if not 0 < lower < len(kept):
            raise ModelError(
                f"language model {directory}: keeps {len(kept)} layers; cut it between 1 and {len(kept) - 1}"
            )
        rotary = getattr(language_model.model, "rotary_emb", None)
        norm = language_model.final_norm()
        if rotary is None or norm is None:
            kind = type(language_model.model).__name__
            raise ModelError(
                f"language model {directory}: the layers of a {kind} can't be run one by one; use one with rotary "
                "positions (Llama, SmolLM, Qwen, Mistral, …)"
            )
        self.directory = directory
        self.tokenizer = language_model.tokenizer
        self.pad_id = language_model.pad_id
        self.width = language_model.width
        self.max_tokens = max_tokens
        before, _, after = prompt.partition("{text}")
        self.before: list[int] = [*language_model.prefix, *self._tokenize(before)]
        self.after: list[int] = self._tokenize(after)
        if not self.after or not self.before:
            raise ModelError(f"reranker: the prompt {prompt!r} needs words before and after {{text}}")
        self.embed = language_model.model.get_input_embeddings()
        self.rotary = rotary
        self.lower_layers = nn.ModuleList(kept[:lower])
        self.upper_layers = nn.ModuleList(kept[lower:])
        for number, layer in enumerate(self.upper_layers):
            layer.self_attn.layer_idx = number  # type: ignore[union-attr]
        self.norm = norm
        self.eval().requires_grad_(False)

    def add_lora(self, spec: LoraSpec) -> None:
        """Put trainable adapters into the upper layers; the lower ones stay as they are, so cached states stay true."""
        add_lora(self, "upper_layers", spec)

    def merge_lora(self) -> None:
        """Fold the adapters into the upper layers."""
        merge_lora(self.upper_layers)

    def token_ids(self, text: str) -> list[int]:
        """Prompt, text in lower case (cut to ``max_tokens``), rest of the prompt."""
        words = " ".join(text.split()).lower().rstrip(".")
        return [*self.before, *self._tokenize(words or " ")[: self.max_tokens], *self.after]

    def states(self, texts: Sequence[str]) -> TextStates:
        """Texts after the lower layers; each row as if it were alone."""
        found = self.states_of([self.token_ids(text) for text in texts])
        place = torch.arange(found.ids.shape[1], device=found.ids.device)[None]
        own = (place >= len(self.before)) & (place < (found.lengths - len(self.after))[:, None])
        return TextStates(found.hidden, found.lengths, found.ids, own)

    def states_of(self, sequences: Sequence[Sequence[int]]) -> TextStates:
        """Token ids after the lower layers, none of them marked as a text's own."""
        device = self.embed.weight.device
        rows = [torch.tensor(sequence) for sequence in sequences]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        ids = pad_sequence(rows, batch_first=True, padding_value=self.pad_id).to(device)
        positions = torch.arange(ids.shape[1], device=device)[None]
        hidden = self._run(self.lower_layers, self.embed(ids), positions)
        return TextStates(hidden, lengths, ids, torch.zeros_like(ids, dtype=torch.bool))

    def read(self, states: TextStates, candidates: int, interact: Interact) -> tuple[torch.Tensor, torch.Tensor]:
        """Every text with ``candidates`` media: states of the last token, and of the text's tokens without media.

        ``interact(layer, hidden)`` gets the last tokens ``(n * candidates, 1, width)``, a text's candidates one after
        the other. Returns ``(n, candidates, width)`` and ``(n, t, width)``, after the final norm.
        """
        count, longest = states.ids.shape
        device = states.hidden.device
        last = states.lengths - 1
        dtype = self._dtype
        hidden = states.hidden.to(dtype)
        positions = torch.arange(longest, device=device)[None]
        final = hidden[torch.arange(count, device=device), last]  # (n, width)
        cache: list[tuple[torch.Tensor, torch.Tensor]] = []
        text = self._run(self.upper_layers, hidden, positions, keep=cache)
        # the last token again, with media: it sees the tokens before it as they are kept, and itself
        one = final.repeat_interleave(candidates, dim=0)[:, None]  # (n * c, 1, width)
        seen = torch.arange(longest, device=device)[None] < last[:, None]  # (n, t)
        mask = torch.cat([seen, torch.ones(count, 1, dtype=torch.bool, device=device)], dim=1)
        bias = torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill(~mask, torch.finfo(dtype).min)
        bias = bias.repeat_interleave(candidates, dim=0)[:, None, None]  # (n * c, 1, 1, t + 1)
        place = last.repeat_interleave(candidates)[:, None]
        rotated = self.rotary(one, place)
        for number, layer in enumerate(self.upper_layers):
            one = interact(number, one)
            past = _Kept([part.repeat_interleave(candidates, dim=0) for part in cache[number]])
            one = _hidden(
                layer(
                    one,
                    attention_mask=bias,
                    position_ids=place,
                    past_key_values=past,
                    use_cache=True,
                    position_embeddings=rotated,
                )
            )
        judged: torch.Tensor = self.norm(one[:, 0])
        return judged.view(count, candidates, -1), self.norm(text)

    def last(self, states: TextStates) -> torch.Tensor:
        """States of the last tokens without media ``(n, width)``, after the final norm."""
        return self.read(states, 1, lambda layer, hidden: hidden)[0][:, 0]

    def caption_states(self, states: TextStates, interact: Interact) -> torch.Tensor:
        """Texts with one media each, every token from the text on reading it -> states ``(n, t, width)``, normed."""
        hidden = states.hidden.to(self._dtype)
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        normed: torch.Tensor = self.norm(self._run(self.upper_layers, hidden, positions, interact=interact))
        return normed

    def begin(self, count: int, interact: Interact) -> Continuation:
        """``count`` texts without words yet: the prompt up to them is read, its last token with media."""
        ids = torch.tensor([self.before] * count, device=self.embed.weight.device)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        hidden = self._run(self.lower_layers, self.embed(ids), positions, keep=kept)
        hidden = self._run(self.upper_layers, hidden, positions, interact=interact, keep=kept)
        return Continuation(self.norm(hidden[:, -1]), kept)

    def extend(
        self, texts: Continuation, rows: Sequence[int], words: Sequence[int], interact: Interact
    ) -> Continuation:
        """Each of ``rows`` of ``texts`` gets one more token, of ``words``; a row may be extended several times.

        ``interact`` is for the media of ``rows``, in their order. What is kept of the tokens before is not run again.
        """
        device = self.embed.weight.device
        picked = torch.tensor(list(rows), device=device)
        kept = [(keys[picked], values[picked]) for keys, values in texts.kept]
        hidden = self.embed(torch.tensor(list(words), device=device)[:, None])
        place = torch.full((1, 1), kept[0][0].shape[2], device=device)
        bias = torch.zeros(1, 1, 1, kept[0][0].shape[2] + 1, dtype=hidden.dtype, device=device)
        rotated = self.rotary(hidden, place)
        longer = []
        for number, layer in enumerate([*self.lower_layers, *self.upper_layers]):
            if number >= len(self.lower_layers):
                hidden = interact(number - len(self.lower_layers), hidden)
            past = _Kept(list(kept[number]))
            hidden = _hidden(
                layer(
                    hidden,
                    attention_mask=bias,
                    position_ids=place,
                    past_key_values=past,
                    use_cache=True,
                    position_embeddings=rotated,
                )
            )
            longer.append((past.keys, past.values))
        return Continuation(self.norm(hidden[:, -1]), longer)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normed states -> next-token logits ``(…, vocabulary)``: the model's tied head."""
        weight: torch.Tensor = self.embed.weight
        return hidden @ weight.to(hidden.dtype).T

    def _run(
        self,
        layers: nn.ModuleList,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        *,
        interact: Interact | None = None,
        keep: list[tuple[torch.Tensor, torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """Causal over whole sequences; what is padded on the right is never looked at."""
        length = hidden.shape[1]
        blocked = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
        bias = torch.zeros(length, length, dtype=hidden.dtype, device=hidden.device)
        bias = bias.masked_fill(blocked, torch.finfo(hidden.dtype).min)[None, None]
        rotated = self.rotary(hidden, positions)
        for number, layer in enumerate(layers):
            if interact is not None:
                start = len(self.before) - 1  # the first word is predicted from this token
                hidden = torch.cat([hidden[:, :start], interact(number, hidden[:, start:])], dim=1)
            past = _Kept([])
            hidden = _hidden(
                layer(
                    hidden,
                    attention_mask=bias,
                    position_ids=positions,
                    past_key_values=past,
                    use_cache=keep is not None,
                    position_embeddings=rotated,
                )
            )
            if keep is not None:
                keep.append((past.keys, past.values))
        return hidden

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.norm.parameters()).dtype

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
        return ids


class _Kept:
    """The keys and values of one layer, in the one call that transformers' attention makes of a cache."""

    def __init__(self, before: list[torch.Tensor]) -> None:
        self.before = before

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """``(n, heads, t, d)`` of the new tokens -> of all."""
        self.keys = torch.cat([self.before[0], keys], dim=2) if self.before else keys
        self.values = torch.cat([self.before[1], values], dim=2) if self.before else values
        return self.keys, self.values


def _hidden(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found


def text_sources(last: torch.Tensor, states: TextStates, rows: Any = slice(None)) -> list[torch.Tensor]:
    """What the compressor reads of texts: last tokens ``(n, 1, width)``, and the mean of own tokens, lower states."""
    picked = rows if isinstance(rows, slice) else torch.as_tensor(rows)
    own = states.own[picked][:, :, None].float()
    mean = (states.hidden[picked].float() * own).sum(dim=1) / own.sum(dim=1).clamp(min=1.0)
    return [last[picked][:, None].float(), mean[:, None]]
