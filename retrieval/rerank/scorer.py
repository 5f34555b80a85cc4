"""The match scorer: a language model's last layers read media tokens through gated cross-attention, and a head judges.

``interaction`` is how the two read each other. ``none``: the language model never sees media (an ablation: the head
alone joins the two). ``one-way``: its tokens read media tokens. ``bidirectional``: media tokens read the text's states
too, before the head sees both. The same layers write captions. Knows nothing of files, of training data or of search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from indexer.encoders.specs import HeadSpec
from indexer.encoders.tokens.compressor import CrossAttention
from indexer.encoders.towers.heads import ProjectionHead, whitening
from indexer.errors import ModelError
from retrieval.rerank.reader import Continuation, Interact, Reader, TextStates

Interaction = Literal["none", "one-way", "bidirectional"]

#: Gates open that many times faster than other parameters move: some hundred steps would hardly open them.
_GATE_SPEED = 20.0
#: The gates of captioning in weight files.
_CAPTION_GATES = "tell_gates"


@dataclass(frozen=True)
class ScorerSpec:
    """Sizes: the language model's width and upper layers; media tokens; widths of cross-attention and head.

    The language model's last state goes into the joint space by a head as the dual encoder's: ``whitened`` components,
    then a linear map and a residual MLP ``hidden`` wide.
    """

    width: int
    layers: int
    media_width: int
    media_count: int
    inner: int = 256
    heads: int = 4
    joint: int = 384
    interaction: Interaction = "bidirectional"
    whitened: int = 576
    hidden: int = 1536


class Scorer(nn.Module):
    """Everything that is trained on the text's side: gated cross-attention, the way back, and the match head."""

    def __init__(self, spec: ScorerSpec, dropout: float = 0.0, text_dropout: float = 0.0) -> None:
        super().__init__()
        if spec.interaction not in get_args(Interaction):
            raise ModelError(f"reranker: interaction {spec.interaction} is none of {', '.join(get_args(Interaction))}")
        self.spec = spec
        attends = spec.interaction != "none"
        layers = spec.layers if attends else 0
        self.cross = nn.ModuleList(
            CrossAttention(spec.width, spec.media_width, spec.inner, spec.heads) for _ in range(layers)
        )
        # tanh of 0: training starts at the unchanged language model
        self.gates = nn.Parameter(torch.zeros(layers))
        # the words of a caption look at media more than the token that judges: gates of their own
        self.register_parameter(_CAPTION_GATES, nn.Parameter(torch.zeros(layers)))
        back = spec.interaction == "bidirectional"
        self.back = CrossAttention(spec.media_width, spec.width, spec.media_width, spec.heads) if back else None
        self.back_gate = nn.Parameter(torch.zeros(1 if back else 0))
        sizes = HeadSpec(spec.width, min(spec.whitened, spec.width), spec.hidden, spec.joint)
        self.text = ProjectionHead(sizes, text_dropout)
        media_in = spec.media_width * spec.media_count
        self.media = nn.Sequential(nn.LayerNorm(media_in), nn.Dropout(dropout), nn.Linear(media_in, spec.joint))
        self.judge = nn.Sequential(
            nn.Linear(3 * spec.joint, spec.joint), nn.GELU(), nn.Dropout(dropout), nn.Linear(spec.joint, 1)
        )
        # the head starts silent: matching begins at what the alignment found
        last = self.judge[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.scale = nn.Parameter(torch.tensor(3.0))  # ln 20: a temperature of 0.05

    @property
    def caption_gates(self) -> nn.Parameter:
        """Of each layer, how far the words of a caption read media; ``gates`` are those of matching."""
        return self.get_parameter(_CAPTION_GATES)

    def lock_projections(self, locked: bool = True) -> None:
        """Let cross-attention and match head alone be trained; or, not ``locked``, everything."""
        for part in (self.text, self.media):
            part.requires_grad_(not locked)
        self.scale.requires_grad_(not locked)

    def forward(self, reader: Reader, states: TextStates, tokens: torch.Tensor) -> torch.Tensor:
        """Texts ``(n)``, their candidates' media tokens ``(n, c, count, media_width)`` -> logits ``(n, c)``."""
        count, candidates = tokens.shape[:2]
        flat = tokens.flatten(0, 1)
        keys = self._keys(flat)
        last, text = reader.read(states, candidates, lambda layer, rows: self._interact(layer, rows, keys, self.gates))
        media = flat
        if self.back is not None:
            # media tokens read the text, without the last token: (n, t, width) is shared by a text's candidates
            longest = text.shape[1]
            seen = torch.arange(longest, device=text.device)[None] < (states.lengths - 1)[:, None]
            seen = seen.repeat_interleave(candidates, dim=0)
            shared = self.back.keys(text.float()).repeat_interleave(candidates, dim=1)
            media = flat + _opened(self.back_gate) * self.back.read(flat, shared, seen)
        left = self._text_rows(last)  # (n, c, joint)
        right = self.media(media.flatten(1)).view(count, candidates, -1)
        judged = self.judge(torch.cat([left, right, left * right], dim=-1)).squeeze(-1)
        # logits of two digits: bfloat16 would round away what distinguishes near candidates
        likeness = functional.normalize(left.float(), dim=-1) * functional.normalize(right.float(), dim=-1)
        return torch.as_tensor(likeness.sum(dim=-1) * self.scale.exp() + judged.float())

    def likeness(self, last: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Cosines ``(n, c)`` of last tokens without media ``(n, width)`` and media ``(c, count, media_width)``."""
        return self.joint_texts(last) @ self.joint_media(tokens).T

    def joint_texts(self, last: torch.Tensor) -> torch.Tensor:
        """Last tokens without media ``(n, width)`` in the joint space: unit rows ``(n, joint)``."""
        return functional.normalize(self._text_rows(last), dim=-1)

    def joint_media(self, tokens: torch.Tensor) -> torch.Tensor:
        """Media ``(n, count, media_width)`` in the joint space: unit rows ``(n, joint)``."""
        return functional.normalize(self.media(tokens.flatten(1)), dim=-1)

    def caption_states(self, reader: Reader, states: TextStates, tokens: torch.Tensor) -> torch.Tensor:
        """Texts with one media each ``(n, count, media_width)`` -> next-token states ``(n, t, width)``."""
        return reader.caption_states(states, self._reading(tokens))

    def begin(self, reader: Reader, tokens: torch.Tensor) -> Continuation:
        """The start of a text for each media ``(n, count, media_width)``."""
        return reader.begin(len(tokens), self._reading(tokens))

    def extend(
        self, reader: Reader, texts: Continuation, rows: Sequence[int], words: Sequence[int], tokens: torch.Tensor
    ) -> Continuation:
        """See :meth:`Reader.extend`; ``tokens`` are the media of ``rows``."""
        return reader.extend(texts, rows, words, self._reading(tokens))

    def caption_loss(self, reader: Reader, states: TextStates, tokens: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, nats a token, of the texts' own tokens and of the quotation mark that ends them."""
        return self.nats(reader, states, tokens)[0].mean()

    def nats(self, reader: Reader, states: TextStates, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts with one media each ``(n, count, media_width)`` -> cross-entropy of each caption token, in nats.

        Those are a text's own and the quotation mark that ends it: float32 ``(m,)``, and int64 ``(m,)``, of which text.
        """
        end = states.lengths - len(reader.after)  # the first token after the text ends it
        longest = int(end.max()) + 1  # what comes after is no caption, and nothing before it looks there
        states = TextStates(
            states.hidden[:, :longest], states.lengths, states.ids[:, :longest], states.own[:, :longest]
        )
        hidden = self.caption_states(reader, states, tokens)
        target = states.own.clone()
        target[torch.arange(len(end), device=end.device), end] = True
        logits = reader.logits(hidden[:, :-1][target[:, 1:]])
        losses = functional.cross_entropy(logits.float(), states.ids[:, 1:][target[:, 1:]], reduction="none")
        return losses, target[:, 1:].nonzero()[:, 0]

    def whiten(self, last: torch.Tensor) -> None:
        """Measure the whitening of last tokens on those of training texts without media ``(n, width)``."""
        self.text.set_whitening(*whitening(last.float(), self.text.spec.whitened, 1.0))

    def _text_rows(self, last: torch.Tensor) -> torch.Tensor:
        with torch.autocast(last.device.type, enabled=False):  # small components drown in bfloat16
            whitened = self.text.whitened(last.float())
        return self.text.rows(whitened)

    def _keys(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """What each layer's cross-attention reads of media tokens ``(n, count, media_width)``."""
        found = []
        for cross in self.cross:
            assert isinstance(cross, CrossAttention)
            found.append(cross.keys(tokens))
        return found

    def _reading(self, tokens: torch.Tensor) -> Interact:
        """How each layer's rows read their media ``(n, count, media_width)`` to write of it."""
        keys = self._keys(tokens)
        return lambda layer, rows: self._interact(layer, rows, keys, self.caption_gates)

    def _interact(self, layer: int, rows: torch.Tensor, keys: list[torch.Tensor], gates: torch.Tensor) -> torch.Tensor:
        if not keys:
            return rows
        cross = self.cross[layer]
        assert isinstance(cross, CrossAttention)
        found = cross.read(rows.float(), keys[layer])
        return rows + (_opened(gates[layer]) * found).to(rows.dtype)


def _opened(gate: torch.Tensor) -> torch.Tensor:
    return torch.tanh(_GATE_SPEED * gate)
