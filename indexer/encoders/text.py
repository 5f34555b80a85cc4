"""The text tower: a pretrained language model, read out to one feature row a text.

A causal LM never had a sentence-level objective, and the mean of its token states is poor; asked to say a text "in
one word", the state of the last token gathers its meaning (PromptEOL, Jiang et al. 2023). The prompt is the tower's
and part of the fingerprint. Knows nothing of pictures or of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from indexer.encoders.specs import TextSpec
from indexer.encoders.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError


class TextTower(nn.Module):
    """A language model with its read-out: ``width`` features a text; locked and in eval mode."""

    def __init__(self, spec: TextSpec, directory: Path) -> None:
        """``directory``: the model in transformers' layout (config.json, safetensors, tokenizer.json)."""
        super().__init__()
        ensure_torchvision()
        from transformers import AutoModel, AutoTokenizer, logging

        log: Any = logging
        log.disable_progress_bar()  # a bar of its own at every start; the command line shows what matters
        verbosity = log.get_verbosity()
        log.set_verbosity_error()  # else a report that the language model's output layer is not used

        self.spec = spec
        before, found, after = spec.prompt.partition("{text}")
        if not found:
            raise ModelError(f"prompt {spec.prompt!r} has no {{text}}")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            self.model = AutoModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise ModelError(f"language model {directory}: can't be opened ({_first_line(error)})") from error
        finally:
            log.set_verbosity(verbosity)
        layers = getattr(self.model, "layers", None)
        if spec.layers and layers is not None:
            if spec.layers > len(layers):
                raise ModelError(f"language model {directory}: has {len(layers)} layers, not {spec.layers}")
            self.model.layers = layers[: spec.layers]
        self.before: list[int] = self.tokenizer(before, add_special_tokens=False).input_ids if before else []
        self.after: list[int] = self.tokenizer(after, add_special_tokens=False).input_ids if after else []
        self.width = int(self.model.config.hidden_size)
        self.eval().requires_grad_(False)

    def token_ids(self, text: str) -> list[int]:
        """The tokens that the model reads for a text: prompt, text (cut to ``max_tokens``), rest of the prompt.

        An empty text reads as a space, so that it has a state of its own.
        """
        words = " ".join(text.split())
        if self.spec.lowercase:
            words = words.lower().rstrip(".")
        ids: list[int] = self.tokenizer(words or " ", add_special_tokens=False).input_ids
        return [*self.before, *ids[: self.spec.max_tokens], *self.after]

    @torch.inference_mode()
    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts -> float32 ``(n, width)``, not normalised, in input order.

        Texts are run by groups of equal length, so a text's row does not depend on its neighbours' padding.
        """
        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        sequences = [self.token_ids(text) for text in texts]
        by_length: dict[int, list[int]] = {}
        for position, sequence in enumerate(sequences):
            by_length.setdefault(len(sequence), []).append(position)
        device = next(self.parameters()).device
        for positions in by_length.values():
            ids = torch.tensor([sequences[p] for p in positions], device=device)
            states = self.model(input_ids=ids, use_cache=False).last_hidden_state  # (n, tokens, width)
            rows[positions] = self._read(states).cpu().numpy()
        return rows

    def _read(self, states: torch.Tensor) -> torch.Tensor:
        if self.spec.readout == "last":
            return states[:, -1].float()
        stop = states.shape[1] - len(self.after)
        return states[:, len(self.before) : stop].float().mean(dim=1)


def _first_line(error: Any) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
