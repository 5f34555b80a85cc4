"""Captions that are false of a row: read from its metadata, a further negative of that row alone, judged held out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studio import changed
from torch import nn
from torch.nn import functional

from indexer.errors import RecipeError
from indexer.training.alignment import Alignment, Criterion, Task
from indexer.training.data.pairs import Pairs
from indexer.training.dual import recipe_digest, train_dual
from indexer.training.loading import load_recipe
from indexer.training.losses import contradicted, info_nce
from indexer.training.recipe import Schedule


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Rows(nn.Module):
    """A side of rows that are learned themselves."""

    live, chunk = False, 0

    def __init__(self, count: int, seed: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)))

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.rows[rows], dim=1)


def small_alignment(weight: float, false: list[list[int]], loss: Any = "infonce") -> Alignment:
    """Four rows with a text each (0 to 3); texts 4 and 5 contradict rows. The same rows are held out, too."""
    schedule = Schedule(batch=4, loss=loss, contradiction_weight=weight, first_caption=1.0)
    pairs = Pairs([[0], [1], [2], [3]], torch.arange(4), false=false, kinds=["colour", "colour", "count", "count"])
    media, text = Rows(8, seed=1), Rows(6, seed=2)
    task = Task("image", media, pairs, pairs, 1.0)
    return Alignment([task], text, Criterion(schedule, torch.device("cpu")), schedule, torch.device("cpu"))


def a_step(alignment: Alignment) -> tuple[float, torch.Tensor]:
    """The loss of a step, and its gradient at the texts."""
    loss = alignment.step(torch.Generator().manual_seed(3)).item()
    gradient = alignment.text.rows.grad  # type: ignore[attr-defined]
    assert gradient is not None
    return loss, gradient


def test_a_contradiction_is_a_column_of_its_row_alone() -> None:
    similarity = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    positive = torch.eye(2, dtype=torch.bool)
    found = contradicted(similarity, positive, torch.tensor([1.0, -torch.inf]))
    first = torch.tensor([2.0, 0.0, 1.0]).logsumexp(0) - 2.0
    second = torch.tensor([1.0, 3.0]).logsumexp(0) - 3.0
    assert found.item() == pytest.approx(((first + second) / 2).item())


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_a_step_adds_the_loss_of_the_rows_that_have_contradictions(loss: str) -> None:
    plain = small_alignment(0.0, [[4], [], [5], []], loss)
    weighted = small_alignment(0.5, [[4], [], [5], []], loss)
    base, own = a_step(plain)
    more, _ = a_step(weighted)
    assert torch.all(own[4:] == 0)  # without a weight a contradiction is no text of the batch
    generator = torch.Generator().manual_seed(3)
    drawn, texts = weighted.samplers[0].draw(generator)
    media, words, criterion = weighted.tasks[0].side.embed(drawn), weighted.text.embed(texts), weighted.criterion
    false_of = {0: 4, 2: 5}
    extra = []
    for place, row in enumerate(drawn.tolist()):
        if row not in false_of:
            continue
        false = media[place] @ weighted.text.embed(torch.tensor([false_of[row]]))[0]
        scale = criterion.parameters["scale"].exp()
        if loss == "sigmoid":
            extra.append(-functional.logsigmoid(-(false * scale + criterion.parameters["bias"])))
            continue
        logits = torch.cat([media[place] @ words.T, false[None]]) * scale
        positive = torch.cat([texts == texts[place], torch.tensor([False])])
        extra.append(info_nce(logits[None], positive[None]))
    assert extra
    assert more - base == pytest.approx(0.5 * sum(extra).item() / 4, rel=1e-4, abs=2e-6)  # type: ignore[union-attr]


def test_a_weight_without_contradictions_changes_nothing() -> None:
    loss, gradient = a_step(small_alignment(0.0, []))
    for without in (small_alignment(0.7, []), small_alignment(0.7, [[], [], [], []])):
        other, same = a_step(without)
        assert other == loss and torch.equal(same, gradient)


def test_every_contradiction_of_a_row_is_drawn_and_none_of_another() -> None:
    pairs = Pairs([[0], [1], [2]], torch.arange(3), false=[[3, 4], [], [5]])
    generator = torch.Generator().manual_seed(0)
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    for _ in range(40):
        places, texts = pairs.contradictions(torch.tensor([2, 0, 1]), generator)
        assert places.tolist() == [0, 1]
        for place, text in zip(places.tolist(), texts.tolist(), strict=True):
            seen[place].add(text)
    assert seen == {0: {5}, 1: {3, 4}}


def test_the_held_out_choice_is_the_share_of_rows_whose_caption_is_nearer() -> None:
    alignment = small_alignment(0.0, [[4], [4], [5], []])
    with torch.no_grad():
        media, text = alignment.tasks[0].side, alignment.text
        axes = torch.eye(6)
        media.rows[4:] = axes[:4]  # type: ignore[attr-defined]
        text.rows[:] = torch.stack([axes[0], axes[1], axes[4], axes[3], axes[1] * 0.9, axes[5]])  # type: ignore[attr-defined]
    found = alignment.evaluate()
    assert found["colour choice"] == 0.5  # row 0 is right; row 1 is as near its contradiction, which counts as wrong
    assert found["count choice"] == 0.0  # row 2 is as far from both; row 3 has none
    assert alignment.evaluate() == found


def with_contradictions(studio: Path) -> Path:
    """A manifest beside the studio's whose pictures contradict another colour."""
    lines = []
    for line in (studio / "pool" / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "image" in row and row["image"] != "gone.png":
            other = "a grey square" if row["metadata"]["concept"] != "grey" else "a black square"
            row["metadata"] |= {"contradictions": [other, "a pale square"], "kind": "colour"}
        lines.append(json.dumps(row))
    path = studio / "pool" / "contradicted.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_recipe_without_the_weight_trains_the_same_and_is_judged_by_contradictions(
    studio: Path, tmp_path: Path
) -> None:
    with_contradictions(studio)
    lines = 'manifests = ["pool/contradicted.jsonl"]'
    plain = train_dual(load_recipe(changed(studio, "plain")), tmp_path / "plain")
    judged = train_dual(load_recipe(changed(studio, "judged", data=lines)), tmp_path / "judged")
    assert (tmp_path / "plain/heads.safetensors").read_bytes() == (tmp_path / "judged/heads.safetensors").read_bytes()
    assert 0 <= judged.heldout.pop("colour choice") <= 1
    assert judged.heldout == plain.heldout
    assert [point["loss"] for point in judged.curve] == [point["loss"] for point in plain.curve]


def test_the_weight_lowers_what_contradictions_score() -> None:
    margins = []
    for weight in (0.0, 3.0):
        alignment = small_alignment(weight, [[4], [5], [4], [5]])
        media, text = alignment.tasks[0].side, alignment.text
        assert isinstance(media, Rows) and isinstance(text, Rows)
        optimiser = torch.optim.SGD([media.rows, text.rows], lr=0.5)
        generator = torch.Generator().manual_seed(0)
        for _ in range(30):
            optimiser.zero_grad()
            alignment.step(generator)
            optimiser.step()
        rows = torch.arange(4)
        near = (media.embed(rows) * text.embed(rows)).sum(dim=1)
        far = (media.embed(rows) * text.embed(torch.tensor([4, 5, 4, 5]))).sum(dim=1)
        margins.append((near - far).mean().item())
    assert margins[1] > margins[0] + 0.2


@pytest.mark.parametrize("value", ["a text", [3], 4.5])
def test_contradictions_that_are_no_texts_are_named(studio: Path, tmp_path: Path, value: object) -> None:
    row = {"image": "red1.png", "captions": ["red"], "split": "train", "metadata": {"contradictions": value}}
    (studio / "pool" / "wrong.jsonl").write_text(json.dumps(row) + "\n")
    recipe = load_recipe(changed(studio, "wrong", data='manifests = ["pool/wrong.jsonl"]'))
    with pytest.raises(RecipeError, match=r"wrong\.jsonl#.*metadata\.contradictions is no list of texts"):
        train_dual(recipe, tmp_path / "out")


def test_a_run_begun_before_there_was_the_key_resumes(studio: Path) -> None:
    recipe = load_recipe(changed(studio, "digest"))
    content = asdict(replace(recipe, path=Path()))
    del content["image"]["model"], content["schedule"]["contradiction_weight"]
    before = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
    assert recipe_digest(recipe) == before
    weighted = load_recipe(changed(studio, "digest", schedule="contradiction_weight = 0.5"))
    assert recipe_digest(weighted) != before
