"""The short part of `make attack`: mutants of every format, some bombs and strangers, always the same ones."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.attack import bomb_words, fuzz, media_seeds, mutate, report, stranger_files, strangers, table_seeds
from benchmarks.attack.seeds import Seed
from benchmarks.attack.stranger_models import OPENCLIP, _openclip
from benchmarks.attack.worker import attempt, mutant
from indexer.encoders.identity import EncoderIdentity
from indexer.media.formats import AUDIO_SUFFIXES, IMAGE_SUFFIXES, TEXT_SUFFIXES

#: Formats for which there is no encoder here, and other names for formats that have a seed.
_WITHOUT_SEED = {
    ".amr",
    ".apng",
    ".dib",
    ".heif",
    ".hif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".m4b",
    ".markdown",
    ".oga",
    ".pnm",
    ".tiff",
    ".aif",
    ".wave",
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    work = tmp_path_factory.mktemp("seeds")
    return [*media_seeds.make(work), *table_seeds.make(work)]


def test_every_seed_is_read_as_it_is(seeds: list[Seed], tmp_path: Path) -> None:
    for seed in seeds:
        if seed.reader.partition(":")[0] == "run" or seed.name.startswith("svg"):
            continue  # the same files once more; a drawing costs a process
        found = attempt(seed, seed.content, tmp_path / "in")
        assert found["outcome"] == "read", (seed.name, found)


def test_every_accepted_format_has_a_seed(seeds: list[Seed]) -> None:
    suffixes = {Path(seed.target).suffix for seed in seeds if seed.reader == "media"}
    assert (IMAGE_SUFFIXES | AUDIO_SUFFIXES | TEXT_SUFFIXES) - suffixes - _WITHOUT_SEED <= {".heic"}


def test_a_mutant_is_the_same_every_time_and_mostly_differs_from_its_seed(seeds: list[Seed]) -> None:
    first = [mutant(seeds, number, 0) for number in range(200)]
    assert first == [mutant(seeds, number, 0) for number in range(200)]
    assert sum(content != seed.content for seed, content in first) > 190
    assert [content for _, content in first] != [mutant(seeds, number, 1)[1] for number in range(200)]


def test_no_way_of_damage_fails_on_what_others_have_damaged(seeds: list[Seed]) -> None:
    by_format = {seed.format: seed.content for seed in seeds}
    for format, content in by_format.items():
        chance = random.Random(format)
        for _ in range(40):
            content = mutate.mutate(content, format, chance, b"another input")[:50_000]


@pytest.mark.parametrize(("reader", "count"), [("media", 300), ("where", 40), ("manifest", 40), ("queries", 20)])
def test_mutants_are_read_or_refused_in_one_line(reader: str, count: int, seeds: list[Seed], tmp_path: Path) -> None:
    of_kind = [seed for seed in seeds if seed.reader.partition(":")[0] == reader and not seed.name.startswith("svg")]
    for number in range(count):
        seed, damaged = mutant(of_kind, number, 7)
        found = attempt(seed, damaged, tmp_path / "in")
        assert found["outcome"] in ("read", "refused"), (seed.name, number, found)


@pytest.mark.parametrize("reader", ["dataset", "recipe", "run"])
def test_mutants_of_rarer_inputs_are_read_or_refused_in_one_line(
    reader: str, seeds: list[Seed], tmp_path: Path
) -> None:
    of_kind = [seed for seed in seeds if seed.reader.partition(":")[0] == reader and "svg" not in seed.name]
    for number in range(12):
        seed, damaged = mutant(of_kind, number, 7)
        found = attempt(seed, damaged, tmp_path / "in")
        assert found["outcome"] in ("read", "refused"), (seed.name, number, found)


def test_a_worker_that_dies_or_fails_is_recorded_and_the_rest_is_read(tmp_path: Path) -> None:
    """Readers that do what no reader should: the fuzzer itself is tried."""
    seeds = [Seed(f"odd-{name}", f"odd:{name}", "a", {"a": b"x" * 40}, "") for name in ("well", "error", "abort")]
    fuzz.save_seeds(seeds, tmp_path / "seeds.pickle")
    figures = fuzz.fuzz(9, tmp_path, pool=1)
    lines = fuzz.read_results(tmp_path / "fuzz.jsonl")
    wanted = {"odd-well": "read", "odd-error": "foreign", "odd-abort": "died"}
    assert {line["seed"]: line["outcome"] for line in lines} == wanted
    assert all(line["outcome"] == wanted[line["seed"]] for line in lines)
    assert figures["mutants"] == 9 and figures["foreign"] == sum(line["seed"] != "odd-well" for line in lines)
    assert len(list((tmp_path / "bad").glob("*.what.json"))) == figures["foreign"]
    assert fuzz.fuzz(9, tmp_path, pool=1) == figures, "a second run has nothing left to do"


@pytest.mark.slow
def test_a_strangers_open_clip_directory_runs_nothing() -> None:
    change = OPENCLIP["code in the tokenizer, allowed by tokenizer_kwargs"]
    found = strangers.run_case(strangers.Case("code in the tokenizer", partial(_openclip, change)))
    assert found["held"], found


def test_a_strangers_manifest_and_drawings_lead_nowhere() -> None:
    for case in stranger_files.cases():
        if case.name.startswith(("manifest", "a playlist")):
            found = strangers.run_case(case)
            assert found["held"] and found["status"] == 0, found


def test_the_watch_notes_code_that_is_run_and_addresses_that_are_looked_up(tmp_path: Path) -> None:
    """What keeps watch is tried, too: a program that does all of it is found out."""

    def make(place: strangers.Place) -> list[str]:
        program = place.stranger / "evil.py"
        program.write_text(f"open({str(place.canary)!r}, 'w').write('ran')")
        return [str(program)]

    found = strangers.run_case(strangers.Case("a program", make), command=strangers.WATCHED_PROGRAM)
    notes = " ".join(found["notes"])
    assert not found["held"]
    for words in ("the payload ran", "executed: ", "network: example.invalid", "process: ", "opened: "):
        assert words in notes, notes


def test_rows_with_values_outside_of_a_column_are_skipped_alone(tmp_path: Path) -> None:
    for bomb in bomb_words.bombs():
        if bomb.name in ("table: JSONL, awkward values", "file dated 2400", "table: JSONL, metadata nested 950 deep"):
            folder = tmp_path / str(abs(hash(bomb.name)))
            folder.mkdir()
            bomb.make(folder)
            assert _indexed(folder) >= 1, bomb.name


def _indexed(folder: Path) -> int:
    from indexer.build.run import build
    from indexer.collection.collection import Collection
    from indexer.corpus.walk import find_items
    from indexer.encoders.fake import FakeEncoder

    paths = [path for path in folder.iterdir() if path.suffix == ".jsonl"] or [folder]
    with Collection.open_or_create(folder / "c", EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)) as made:
        report = build(made, find_items(paths), FakeEncoder())
        assert made.verify() == []
        return report.added


# the page


def test_the_page_prints_what_was_found() -> None:
    found: dict[str, Any] = json.loads(report.RESULTS.read_text()) if report.RESULTS.is_file() else {}
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.renewed(text, found) == text, "run: python -m benchmarks.attack.report"
    assert {block["name"] for block in report.BLOCK.finditer(text)} == set(report.TABLES)
