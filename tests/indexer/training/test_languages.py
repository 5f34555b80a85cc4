"""Captions in other languages: translations in training, and a text tower that reads only what it can."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import save_language_model
from studio import COLOURS, changed

from indexer.corpus.walk import read_manifest
from indexer.encoders import open_encoder
from indexer.encoders.specs import GateSpec, read_config
from indexer.encoders.towers.load import load_gate
from indexer.errors import RecipeError
from indexer.items import Item, Modality
from indexer.training.data.pairs import Pairs, Sampler
from indexer.training.data.rows import Example, read_translations
from indexer.training.dual import train_dual
from indexer.training.loading import load_recipe

#: Digits: a tokenizer of letters reads them as other tokens.
FOREIGN = {colour: [f"{number}{number}4711 {number}", f"{number} 0815"] for number, colour in enumerate(COLOURS)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recipe(studio: Path) -> Path:
    """A recipe with two text towers, the first of them gated, and translations of every picture's caption."""
    lines = []
    for row in read_manifest(studio / "pool" / "manifest.jsonl").rows:
        colour = row.captions[-1]
        if colour in FOREIGN:
            own = {"xx": FOREIGN[colour], "yy": [FOREIGN[colour][0]]}
            lines.append(json.dumps({"id": row.row_id, "translations": own}))
    (studio / "translations.jsonl").write_text("\n".join(lines) + "\n")
    judge = save_language_model(studio / "judge", "bert") if not (studio / "judge").is_dir() else studio / "judge"
    tower = f'[[text.towers]]\nsource = "{judge}"\nreadout = "mean"\nmax_tokens = 40\n'
    path = changed(
        studio,
        "languages",
        data='translations = ["translations.jsonl"]',
        schedule="translation = 0.5\ntext_weight = 0.5\nsteps = 12",
    )
    text = path.read_text().replace(
        "[text.head]", f"{tower}[text]\ntower_dropout = 0.3\n[text.gate]\ngated = 0\njudge = 1\n[text.head]"
    )
    path.write_text(text)
    return path


def test_a_gated_tower_is_trained_written_and_read_as_it_was_trained(recipe: Path, tmp_path: Path) -> None:
    report = train_dual(load_recipe(recipe), tmp_path / "out")
    config = read_config(tmp_path / "out")
    assert config.gate == GateSpec(0, 1) and len(config.text) == 2
    gate = load_gate(tmp_path / "out", config)
    assert gate is not None
    encoder = open_encoder(str(tmp_path / "out"))
    towers = list(encoder.text_tower)  # type: ignore[attr-defined]
    judged = towers[1].features(["a red square", "blue", *FOREIGN["red"], *FOREIGN["purple"]])
    assert gate.reads(judged).tolist() == [True, True, False, False, False, False]
    read: list[str] = []
    features = towers[0].features
    towers[0].features = lambda texts: (read.extend(texts), features(texts))[1]
    rows = encoder.encode_queries(["a red square", *FOREIGN["red"], "blue"])
    assert read == ["a red square", "blue"]
    alone = np.concatenate([encoder.encode_queries([text]) for text in ("a red square", *FOREIGN["red"], "blue")])
    np.testing.assert_allclose(rows, alone, atol=1e-5)
    assert report.texts > 20


def test_the_second_run_computes_nothing_and_gives_the_same_weights(recipe: Path, tmp_path: Path) -> None:
    train_dual(load_recipe(recipe), tmp_path / "one")
    stages: list[str] = []
    train_dual(load_recipe(recipe), tmp_path / "two", on_progress=lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"alignment"}
    assert (tmp_path / "one/heads.safetensors").read_bytes() == (tmp_path / "two/heads.safetensors").read_bytes()


def test_every_language_is_drawn_as_often_and_other_rows_keep_their_text() -> None:
    pairs = Pairs(texts=[[0], [1]], labels=torch.tensor([0, 1]), foreign=[{"de": [2, 3], "fr": [4]}, {}])
    sampler = Sampler(pairs, 2, first_caption=1.0, translation=0.6)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([sampler.texts(torch.tensor([0, 1]), generator)[None] for _ in range(2_000)])
    counts = torch.bincount(drawn[:, 0], minlength=5).tolist()
    assert counts[1] == 0 and abs(counts[0] - 800) < 90
    assert abs(counts[4] - 600) < 90 and abs(counts[2] - 300) < 70 and abs(counts[3] - 300) < 70
    assert set(drawn[:, 1].tolist()) == {1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("judge = 1", "judge = 0", "text.gate: gated and judge are two of the towers, numbered from 0 to 1"),
        ("judge = 1", "judge = 7", "text.gate: gated and judge"),
        ('translations = ["translations.jsonl"]', "", "text.gate learns from translations"),
        ("translations.jsonl", "none.jsonl", r"none\.jsonl: no such file of translations"),
    ],
)
def test_mistakes_in_a_recipe_are_named(recipe: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    path = recipe.with_name("mistake.toml")
    path.write_text(recipe.read_text().replace(old, new, 1))
    with pytest.raises(RecipeError, match=message):
        train_dual(load_recipe(path), tmp_path / "out")


def test_a_row_has_the_translations_of_its_first_caption_beside_its_own(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "translations": {"de": ["Hammer"], "fr": []}}\n')
    (tmp_path / "names.jsonl").write_text('{"text": "hammer", "translations": {"de": ["Beil"], "fr": ["marteau"]}}\n')
    found = read_translations([tmp_path / "names.jsonl", tmp_path / "rows.jsonl"])

    def example(row: str, *captions: str) -> Example:
        return Example(Item(row, Modality.IMAGE, tmp_path), row, captions, captions[0], "", row)

    assert found.of(example("a", "hammer", "a tool")) == {"de": ["Hammer"], "fr": ["marteau"]}
    assert found.of(example("b", "hammer")) == {"de": ["Beil"], "fr": ["marteau"]}
    assert found.of(example("b", "a tool", "hammer")) == {}
    assert found.of_text("hammer") == {"de": ["Beil"], "fr": ["marteau"]}


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": 3, "translations": {}}', '{"id": "a", "translations": {"de": "x"}}']
)
def test_a_line_that_is_none_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"id": "a", "translations": {{"de": ["x"]}}}}\n{line}\n')
    with pytest.raises(RecipeError, match=r"t\.jsonl, line 2"):
        read_translations([tmp_path / "t.jsonl"])
