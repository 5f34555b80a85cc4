"""Runs of training that are cut off, shared by processes, live in their towers, or begin with a stage of texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import TRUNK, save_language_model
from studio import changed

from indexer.encoders import open_encoder
from indexer.encoders.specs import read_config
from indexer.encoders.towers.image import ImageTower
from indexer.errors import RecipeError
from indexer.training.dual import train_dual
from indexer.training.loading import load_recipe
from indexer.training.loop import Point


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Killed(Exception):
    pass


def killed_at(step: int) -> Any:
    def tell(stage: str, point: Point) -> None:
        if point.step >= step:
            raise Killed  # before the checkpoint of that point is written, as a kill -9 there would

    return tell


LORA = "[text.towers.lora]\nrank = 2\nalpha = 4.0\ndropout = 0.1\n"
STAGE = """
[caption_contrastive]
steps = 6
batch = 12
chunk = 4
evaluate_every = 2
dim = 8
"""


def with_lora(path: Path) -> Path:
    """Put LoRA into the recipe's only text tower: a table of its own right after the tower's keys."""
    path.write_text(path.read_text().replace("[text.head]", LORA + "[text.head]", 1))
    return path


def test_a_run_that_was_killed_ends_as_one_that_was_not(studio: Path, tmp_path: Path) -> None:
    recipe = load_recipe(changed(studio, "kill"))
    whole = train_dual(recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train_dual(recipe, tmp_path / "cut", on_point=killed_at(8))
    assert (tmp_path / "cut" / "checkpoint.pt").is_file()
    told: list[int] = []
    cut = train_dual(recipe, tmp_path / "cut", on_point=lambda stage, point: told.append(point.step))
    assert told == [8, 12]  # it went on after step 4, the last checkpoint
    assert cut.curve == whole.curve
    assert (tmp_path / "cut/heads.safetensors").read_bytes() == (tmp_path / "whole/heads.safetensors").read_bytes()
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()


def test_a_checkpoint_of_another_recipe_is_refused_with_the_remedy(studio: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_dual(load_recipe(changed(studio, "one")), tmp_path / "out", on_point=killed_at(8))
    other = load_recipe(changed(studio, "other", schedule="learning_rate = 1e-4"))
    with pytest.raises(RecipeError, match=r"checkpoint.pt: is of another recipe.*delete it"):
        train_dual(other, tmp_path / "out")
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(RecipeError, match="no whole checkpoint"):
        train_dual(other, tmp_path / "out")


def test_a_loss_that_is_no_number_stops_the_run_with_the_step(studio: Path, tmp_path: Path) -> None:
    recipe = load_recipe(changed(studio, "wild", schedule="learning_rate = 1.0"))
    object.__setattr__(recipe.schedule, "learning_rate", 1e30)
    with pytest.raises(RecipeError, match=r"the loss is nan at step \d+; lower the learning rate"):
        train_dual(recipe, tmp_path / "out")


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_both_losses_learn(studio: Path, tmp_path: Path, loss: str) -> None:
    recipe = load_recipe(changed(studio, loss, schedule=f'loss = "{loss}"\nsteps = 30\nevaluate_every = 10'))
    curve = train_dual(recipe, tmp_path / "out").curve
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]


def test_two_processes_learn_what_one_does(studio: Path, tmp_path: Path) -> None:
    """Without dropout, the loss of every step is that of one process that has the whole batch."""
    text = changed(studio, "shared").read_text()
    path = studio / "shared.toml"
    path.write_text("\n".join("dropout = 0.0" if line.startswith("dropout") else line for line in text.splitlines()))
    one = train_dual(load_recipe(path), tmp_path / "one")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trimodal.cli",
        "train", "dual", str(path), "--out", str(tmp_path / "two"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads((tmp_path / "two" / "run.json").read_text())
    assert [p["loss"] for p in two["curve"]] == pytest.approx([p["loss"] for p in one.curve], rel=1e-4)
    queries = ["a red square", "tone 3"]
    rows = [open_encoder(str(tmp_path / name)).encode_queries(queries) for name in ("one", "two")]
    np.testing.assert_allclose(rows[0], rows[1], atol=5e-3)
    assert done.stdout.count("wrote") == 1  # the first process tells, the other is silent


def test_live_texts_train_lora_and_the_directory_opens_with_it(studio: Path, tmp_path: Path) -> None:
    path = with_lora(changed(studio, "live", text__head="", schedule="lm_weight = 0.1\nchunk = 8"))
    path.write_text(path.read_text().replace("[text.head]", "[text]\nlive = true\n[text.head]", 1))
    report = train_dual(load_recipe(path), tmp_path / "out")
    assert report.curve[-1]["loss"] < report.curve[0]["loss"]
    config = read_config(tmp_path / "out")
    assert config.text[0].adapter == "text-0-adapter.safetensors"
    encoder = open_encoder(str(tmp_path / "out"))
    before = encoder.encode_queries(["a red square", "a blue square"])
    assert before.shape == (2, 24)
    # what was trained is in the file: without it the rows are others
    assert encoder.fingerprint != open_encoder(str(train(studio, tmp_path, "plain"))).fingerprint


@pytest.mark.slow
def test_compiled_towers_learn_what_plain_ones_do(studio: Path, tmp_path: Path) -> None:
    curves = []
    for compiled in ("false", "true"):
        path = changed(studio, f"compiled-{compiled}", schedule=f"steps = 2\nevaluate_every = 1\ncompile = {compiled}")
        text = path.read_text().replace(
            "[text.head]", LORA.replace("0.1", "0.0") + "[text]\nlive = true\n[text.head]", 1
        )
        path.write_text("\n".join("dropout = 0.0" if li.startswith("dropout") else li for li in text.splitlines()))
        curves.append([point["loss"] for point in train_dual(load_recipe(path), tmp_path / compiled).curve])
    assert curves[1] == pytest.approx(curves[0], rel=2e-2)  # other kernels round otherwise in bfloat16
    open_encoder(str(tmp_path / "true")).encode_queries(["x"])  # its weights have the plain names


def train(studio: Path, tmp_path: Path, name: str, **lines: str) -> Path:
    train_dual(load_recipe(changed(studio, name, **lines)), tmp_path / name)
    return tmp_path / name


def test_unlocked_groups_of_a_trunk_are_trained_and_saved(studio: Path, tmp_path: Path) -> None:
    path = changed(studio, "unlocked", schedule="steps = 4\nevaluate_every = 2\nchunk = 8")
    path.write_text(path.read_text().replace("[image.head]", "[image]\nunlocked_groups = 1\n[image.head]", 1))
    train_dual(load_recipe(path), tmp_path / "out")
    from safetensors.torch import load_file

    locked = load_file(studio / "towers" / "image-test.safetensors")
    trained = load_file(tmp_path / "out" / "image-test.safetensors")
    moved = {name for name in locked if not torch.allclose(locked[name].half(), trained[name], atol=1e-4)}
    assert moved
    assert not any("patch_embed" in name for name in moved)
    open_encoder(str(tmp_path / "out")).encode_queries(["x"])


def test_a_stage_of_texts_is_run_once_and_gone_on_from_after_a_kill(studio: Path, tmp_path: Path) -> None:
    recipe = load_recipe(with_lora(changed(studio, "stage", __end__=STAGE)))
    with pytest.raises(Killed):
        train_dual(recipe, tmp_path / "out", on_point=killed_at(4))
    told: list[tuple[str, int]] = []
    report = train_dual(recipe, tmp_path / "out", on_point=lambda stage, point: told.append((stage, point.step)))
    assert [step for stage, step in told if stage == "texts"] == [4, 6]
    told.clear()
    again = train_dual(recipe, tmp_path / "again", on_point=lambda stage, point: told.append((stage, point.step)))
    assert {stage for stage, _ in told} == {"alignment"}
    assert again.heldout == report.heldout
    names = [(tmp_path / name / "text-0-adapter.safetensors").read_bytes() for name in ("out", "again")]
    assert names[0] == names[1]
    assert open_encoder(str(tmp_path / "out")).encode_queries(["a"]).shape == (1, 24)


def test_a_teacher_and_the_language_model_loss_join_the_stage(studio: Path, tmp_path: Path) -> None:
    teacher = save_language_model(tmp_path / "teacher", seed=3)
    more = f'teacher = "{teacher}"\nlm_weight = 0.2\n'
    recipe = load_recipe(with_lora(changed(studio, "taught", __end__=STAGE + more)))
    points: list[Point] = []
    train_dual(recipe, tmp_path / "out", on_point=lambda s, p: points.append(p) if s == "texts" else None)
    plain_points: list[Point] = []
    plain = load_recipe(with_lora(changed(studio, "untaught", __end__=STAGE)))
    train_dual(plain, tmp_path / "plain", on_point=lambda s, p: plain_points.append(p) if s == "texts" else None)
    assert points[0].loss > plain_points[0].loss + 0.2  # both losses are added, and the second is of 256 letters
    assert points[-1].loss < points[0].loss


def test_paraphrases_are_texts_of_the_rows_that_bear_their_name(studio: Path, tmp_path: Path) -> None:
    (studio / "words.jsonl").write_text('{"text": "a red square", "also": ["the colour of blood", "like a rose"]}\n')
    path = changed(studio, "reworded", data='paraphrases = ["words.jsonl"]', schedule="paraphrase = 0.5")
    report = train_dual(load_recipe(path), tmp_path / "out")
    plain = train_dual(load_recipe(changed(studio, "named")), tmp_path / "plain")
    assert report.texts == plain.texts + 2
    assert report.paraphrased == 4  # the five red squares less the near-duplicate
    assert "description->image @1" not in report.heldout  # no held-out row has other words
    (studio / "words.jsonl").write_text('{"text": "a purple square", "also": ["the colour of plums"]}\n')
    described = train_dual(load_recipe(path), tmp_path / "described").heldout
    assert 0.0 <= described["description->image @1"] <= described["description->image @10"] == 1.0  # ten pictures
    (studio / "words.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(RecipeError, match="words.jsonl, line 1: not"):
        train_dual(load_recipe(path), tmp_path / "out2")


def test_sounds_and_pictures_of_one_concept_are_tied(studio: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (studio / "pool/manifest.jsonl").read_text().splitlines()]
    for row in rows:
        if "audio" in row:  # the tones get the colours' concepts
            row["metadata"]["concept"] = Path(row["audio"]).stem
    (studio / "pool" / "tied.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = {"data": 'manifests = ["pool/tied.jsonl"]'}
    tied = changed(studio, "tied", audio="weight = 0.5\npicture_weight = 1.0", **lines)
    loose = changed(studio, "loose", **lines)
    found = [train_dual(load_recipe(path), tmp_path / path.stem).curve[0]["loss"] for path in (tied, loose)]
    assert found[0] > found[1] + 0.3  # the tie adds a loss of its own


def test_a_recipe_that_trains_nothing_in_its_language_model_says_so(studio: Path) -> None:
    with pytest.raises(RecipeError, match="no text tower has anything to train"):
        load_recipe(changed(studio, "nothing", __end__=STAGE))


def test_a_classifiers_rows_are_trained_as_pictures_of_their_classes(studio: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    width = ImageTower([TRUNK]).width
    save_file({"weight": torch.randn(3, width)}, studio / "classifier.safetensors")
    names = [
        {"captions": ["crimson", "a crimson square"], "split": "train", "also": ["a deep red"]},
        {"captions": ["purple"], "split": "val"},
        {"captions": ["teal"], "metadata": {"concept": "teal"}},
    ]
    (studio / "classes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in names))
    table = '[image.prototypes]\ntrunk = 0\nclassifier = "classifier.safetensors"\nnames = "classes.jsonl"\n'
    path = changed(studio, "prototypes")
    path.write_text(path.read_text().replace("[image.head]", table + "[image]\ntrunk_dropout = 0.3\n[image.head]", 1))
    report = train_dual(load_recipe(path), tmp_path / "out")
    plain = train_dual(load_recipe(changed(studio, "without")), tmp_path / "plain")
    assert report.texts == plain.texts + 3  # crimson, a crimson square, teal; purple is held out
    assert report.examples == plain.examples  # what is measured is the same
    with pytest.raises(RecipeError, match=r"classifier.safetensors: weight is \(3, 5\), not \(classes, "):
        save_file({"weight": torch.randn(3, 5)}, studio / "classifier.safetensors")
        train_dual(load_recipe(path), tmp_path / "out2")
    (studio / "classes.jsonl").write_text('{"split": "train"}\n')
    with pytest.raises(RecipeError, match="classes.jsonl, line 1: not"):
        train_dual(load_recipe(path), tmp_path / "out3")


@pytest.mark.parametrize("kind", ["bert", "gpt2", "qwen2"])
def test_another_language_model_is_one_changed_line(studio: Path, tmp_path: Path, kind: str) -> None:
    other = save_language_model(tmp_path / kind, kind)
    text = (studio / "recipe.toml").read_text()
    lines = text.splitlines()
    changed_lines = [f'source = "{other}"' if line.startswith("source") else line for line in lines]
    assert sum(a != b for a, b in zip(lines, changed_lines, strict=True)) == 1
    (studio / f"{kind}.toml").write_text("\n".join(changed_lines))
    report = train_dual(load_recipe(studio / f"{kind}.toml"), tmp_path / "out")
    assert report.curve[-1]["loss"] < report.curve[0]["loss"]
    assert open_encoder(str(tmp_path / "out")).encode_queries(["a red square"]).shape == (1, 24)
