"""Texts cut by the model's own tokens, and what follows in collections and for queries: indexer/media/text."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import save_byte_tokenizer, save_language_model, save_small_model, save_word_tokenizer
from typer.testing import CliRunner

import indexer.media.text.token_passages as token_passages_module
from cli import app
from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.collection.description import parse_description
from indexer.collection.rebuild import rebuild
from indexer.corpus.walk import find_items
from indexer.duplicates.groups import find_duplicates
from indexer.encoders import open_encoder
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.specs import TextSpec
from indexer.encoders.towers.text import TextTower, TextTowers
from indexer.errors import IndexDamaged, MediaError
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.decode import decode
from indexer.media.stopwatch import Stopwatch
from indexer.media.text.measure import CountMeasure, LeastMeasure, TokenizerMeasure
from indexer.media.text.token_passages import PassageRule, cut_by, rule_of, token_passages
from retrieval.embed import embed_texts
from retrieval.query import Query
from retrieval.search import Searcher

RUSSIAN = "Мы долго шли через лес и видели птиц. Потом начался дождь, и мы ждали под дубом. "
CHINESE = "我们今天去了森林里散步。看到了很多鸟儿和花朵。下午下起了大雨，我们躲在橡树下面。"
NO_OVERLAP = PassageRule(256, 0.0)


@pytest.fixture(scope="module")
def bytes_measure(tmp_path_factory: pytest.TempPathFactory) -> TokenizerMeasure:
    """A byte is a token, 24 are read."""
    return TokenizerMeasure(tokenizer_of(tmp_path_factory.mktemp("bytes"), save_byte_tokenizer), 24)


def tokenizer_of(folder: Path, save: Any) -> Any:
    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    from transformers import PreTrainedTokenizerFast

    save(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


# -- where it is cut -------------------------------------------------------------------------------------------------


def test_a_text_that_is_read_whole_is_one_passage_and_white_space_is_none(bytes_measure: TokenizerMeasure) -> None:
    assert token_passages("  twenty-four   letters \n in", PassageRule(), bytes_measure) == ["twenty-four letters in"]
    assert token_passages(" \n\n\t\n", PassageRule(), bytes_measure) == []


def test_it_is_cut_at_sentence_ends_and_the_last_sentence_begins_the_next_passage(
    bytes_measure: TokenizerMeasure,
) -> None:
    text = "First it was. Then: ab. And so it went on. Yes."
    assert token_passages(text, NO_OVERLAP, bytes_measure) == ["First it was. Then: ab.", "And so it went on. Yes."]
    short = "It rained all day. Oh. And then it ended."
    assert token_passages(short, PassageRule(), bytes_measure) == ["It rained all day. Oh.", "Oh. And then it ended."]


def test_without_sentences_it_is_cut_at_spaces_and_the_last_words_begin_the_next_passage(
    bytes_measure: TokenizerMeasure,
) -> None:
    text = "aaaa bbbb cccc dd ee fff gggg"
    assert token_passages(text, NO_OVERLAP, bytes_measure) == ["aaaa bbbb cccc dd ee fff", "gggg"]
    assert token_passages(text, PassageRule(), bytes_measure) == ["aaaa bbbb cccc dd ee fff", "fff gggg"]
    longer = "a bb " + "c" * 18 + " " + "d" * 30
    assert token_passages(longer, PassageRule(), bytes_measure) == ["a bb " + "c" * 18, "d" * 24, "d" * 3 + "d" * 6]


def test_a_character_of_a_script_that_makes_more_tokens_takes_more_room(bytes_measure: TokenizerMeasure) -> None:
    assert token_passages("森林里散步。看到鸟。雨", NO_OVERLAP, bytes_measure) == ["森林里散步。", "看到鸟。雨"]
    assert token_passages("森" * 20, NO_OVERLAP, bytes_measure) == ["森" * 8, "森" * 8, "森" * 4]


def test_paragraphs_are_packed_and_a_passage_ends_with_one_where_it_is_half_full(
    bytes_measure: TokenizerMeasure,
) -> None:
    text = "a title\n\nsome words\n\nthe next paragraph"
    assert token_passages(text, PassageRule(), bytes_measure) == ["a title\nsome words", "the next paragraph"]
    heading = "Title\n\nmany words of a text that is longer"
    assert token_passages(heading, NO_OVERLAP, bytes_measure) == ["Title\nmany words of a", "text that is longer"]


def test_a_rule_may_want_fewer_tokens_than_the_model_reads(bytes_measure: TokenizerMeasure) -> None:
    assert token_passages("aaaa bbbb cccc", PassageRule(9, 0.0), bytes_measure) == ["aaaa bbbb", "cccc"]


def test_a_word_that_is_one_token_however_long_it_is_does_not_hide_the_rest() -> None:
    whole = CountMeasure(lambda text: 1, 10)
    assert [len(one) for one in token_passages("a" * 200, NO_OVERLAP, whole)] == [80, 80, 40]


def test_no_passage_is_cut_by_the_model_and_nothing_is_lost_for_any_text(tmp_path: Path) -> None:
    tokenizers = [tokenizer_of(tmp_path / save.__name__, save) for save in (save_byte_tokenizer, save_word_tokenizer)]
    measure = LeastMeasure(
        [TokenizerMeasure(tokenizers[0], 30, str.lower), TokenizerMeasure(tokenizers[1], 24), CountMeasure(len, 90)]
    )
    generator = random.Random(0)
    for _ in range(400):
        text = "".join(generator.choices("ab.。!? \n\n\t\"'é中🎵İ…", k=generator.randrange(300)))
        rule = PassageRule(generator.choice((6, 9, 20, 256)), generator.choice((0.0, 0.1, 0.25, 0.5)))
        found = token_passages(text, rule, measure)
        assert all(measure.read_chars(one, rule.tokens) == len(one) for one in found)
        assert found == token_passages(text, rule, measure)
        solid, covered = "".join(text.split()), 0
        for one in found:  # each begins in what is covered or right behind it, and goes further
            own = "".join(one.split())
            starts = [n for n in range(max(0, covered - len(own) + 1), covered + 1) if solid.startswith(own, n)]
            assert starts
            covered = max(starts) + len(own)
        assert covered == len(solid)


def test_the_blocks_in_which_a_text_is_read_make_no_difference(
    bytes_measure: TokenizerMeasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (RUSSIAN + "\n\n" + CHINESE + " some words, and more of them ") * 20
    whole = token_passages(text, PassageRule(), bytes_measure)
    import indexer.media.text.decode

    for chars in (1, 50, 333):
        monkeypatch.setattr(indexer.media.text.decode, "BLOCK_CHARS", chars)
        monkeypatch.setattr(token_passages_module, "BLOCK_CHARS", chars)
        assert token_passages(text, PassageRule(), bytes_measure) == whole


def test_the_time_for_a_text_grows_with_it_and_what_takes_longer_is_named(
    bytes_measure: TokenizerMeasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def later(text: str, most: int) -> int:
        now[0] += 0.1
        return bytes_measure.read_chars(text, most)

    class Slow:
        max_tokens = 24
        read_chars = staticmethod(later)

    monkeypatch.setattr("indexer.media.stopwatch.time.thread_time", lambda: now[0])
    limits = MediaLimits(max_seconds=1)
    with pytest.raises(
        MediaError, match=r"^a\.txt: takes too long to read, over the 1 s limit for every million chara"
    ):
        token_passages("words " * 100, PassageRule(), Slow(), Stopwatch("a.txt", limits))
    monkeypatch.setattr("indexer.media.stopwatch.TEXT_SHARE_CHARS", 10)
    assert token_passages("words " * 100, PassageRule(), Slow(), Stopwatch("a.txt", limits))


# -- what a model reads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_what_a_tower_reads_is_what_its_tokens_are_made_of(kind: str, lowercase: bool, tmp_path: Path) -> None:
    directory = save_language_model(tmp_path / "lm", kind)
    tower = TextTower(TextSpec("lm", prompt="{text} is", max_tokens=12, lowercase=lowercase), directory)
    uncut = TextTower(TextSpec("lm", prompt="{text} is", max_tokens=400, lowercase=lowercase), directory)
    measure = tower.measure()
    assert measure.max_tokens == 12
    generator = random.Random(1)
    for _ in range(200):
        text = "".join(generator.choices("abc. é中İAß", k=generator.randrange(1, 30))).strip() or "a"
        text = " ".join(text.split())
        read = measure.read_chars(text, 400)
        assert (read == len(text)) == (tower.token_ids(text) == uncut.token_ids(text))
        assert 1 <= read <= len(text)
        part = text[:read]
        while (fewer := measure.read_chars(part, 400)) < len(part):
            part = part[:fewer]
        assert tower.token_ids(part) == uncut.token_ids(part)


def test_of_several_towers_all_read_a_passage(tmp_path: Path) -> None:
    specs = [TextSpec("lm", max_tokens=9), TextSpec("lm", max_tokens=30)]
    directory = save_language_model(tmp_path / "lm")
    measure = TextTowers([TextTower(spec, directory) for spec in specs]).measure()
    assert (measure.max_tokens, measure.read_chars("a" * 40, 400), measure.read_chars("a" * 9, 400)) == (9, 9, 9)


# -- in collections --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder of which a byte is a token and 40 are read."""
    return save_small_model(tmp_path_factory.mktemp("model") / "small")


def made(place: Path, encoder: Any, rule: PassageRule | None) -> Collection:
    return Collection.create(place, EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim), rule)


def notes(folder: Path) -> list[Path]:
    """Three notes of 600 characters: two differ only at the end, one is another."""
    folder.mkdir()
    same = (RUSSIAN * 10)[:570]
    texts = {
        "one.txt": same + "Ключ лежит под ковром",
        "two.txt": same + "Собака любит сыр дома",
        "other.txt": CHINESE * 9,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return sorted(folder.iterdir())


def test_notes_that_differ_only_at_their_ends_have_other_vectors_and_are_no_duplicates(
    model: Path, tmp_path: Path
) -> None:
    encoder = open_encoder(str(model))
    notes(tmp_path / "notes")
    for rule in (None, rule_of(encoder)):
        with made(tmp_path / str(rule is None), encoder, rule) as collection:
            report = build(collection, find_items([tmp_path / "notes"]), encoder)
            parts = {}
            for key in list(collection.catalog.keys()):
                (row,) = collection.catalog.find([key]).values()
                parts[Path(key).stem] = collection.catalog.segments_of(row.item_id)
            vectors = {
                name: collection.vectors.get(np.array([one.vector_id for one in some])) for name, some in parts.items()
            }
            cosines = (vectors["one"] * vectors["two"]).sum(axis=1)
            assert report.segments == sum(map(len, parts.values()))
            if rule is None:  # as before: 600 characters, of which 40 bytes are read
                assert [len(some) for some in parts.values()] == [1, 1, 1]
                assert cosines[0] > 0.999999
                continue
            measure = encoder.open_text_measure()  # type: ignore[attr-defined]
            texts = {name: [one.segment.text or "" for one in some] for name, some in parts.items()}
            assert all(measure.read_chars(text, 40) == len(text) for some in texts.values() for text in some)
            assert texts["one"][:-2] == texts["two"][:-2]
            assert (texts["one"][-1], texts["two"][-1]) == ("под ковром", "сыр дома")
            assert cosines[0] > 0.999999 and cosines[-1] < 0.99
            assert len(texts["one"]) >= 27  # 1,100 bytes, 40 at once
            groups = list(find_duplicates(collection, modalities=[Modality.TEXT], threshold=0.995))
            assert groups == []


def test_what_stands_at_the_end_of_a_long_note_is_found(model: Path, tmp_path: Path) -> None:
    encoder = open_encoder(str(model))
    notes(tmp_path / "notes")
    with made(tmp_path / "c", encoder, rule_of(encoder)) as collection:
        build(collection, find_items([tmp_path / "notes"]), encoder)
        texts = [
            one.segment.text or ""
            for row in collection.catalog.find([str(tmp_path / "notes" / "two.txt")]).values()
            for one in collection.catalog.segments_of(row.item_id)
        ]
    with Searcher.open(tmp_path / "c", model=str(model)) as searcher:
        hit = searcher.search(texts[-1], k=1)[0]
        assert hit.path.name == "two.txt" and hit.score == pytest.approx(1.0, abs=1e-5)


def test_a_manifests_texts_are_cut_as_files_are(model: Path, tmp_path: Path) -> None:
    cut = cut_by(PassageRule(), open_encoder(str(model)))
    path = tmp_path / "a.txt"
    path.write_text(RUSSIAN * 4)
    file = Item(str(path), Modality.TEXT, path)
    row = Item("m.jsonl#1", Modality.TEXT, tmp_path / "m.jsonl", text=RUSSIAN * 4)
    found = [[one.segment.text for one in decode(item, cut=cut).segments] for item in (file, row)]
    assert found[0] == found[1] and len(found[0]) > 8


def test_a_collection_keeps_the_rule_that_it_was_made_with_until_it_is_rebuilt(model: Path, tmp_path: Path) -> None:
    runner, place, folder = CliRunner(), tmp_path / "c", tmp_path / "notes"
    notes(folder)

    def counts(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = runner.invoke(app, ["index", str(folder), "-c", str(place), "--model", str(model), "--json", *arguments])
        assert done.exit_code == 0, done.output
        shown = runner.invoke(app, ["info", "-c", str(place), "--json"])
        return json.loads(done.stdout)["segments"], json.loads(shown.stdout)

    encoder = open_encoder(str(model))
    made(place, encoder, None).close()  # as collections were made before
    description = json.loads((place / "collection.json").read_text())
    assert description["passages"] is None
    with Collection.open(place, writable=True) as old:
        build(old, find_items([folder]), encoder)
    segments, facts = counts()
    assert (segments, facts["passages"], facts["segments"]["text"]) == (0, None, 3)
    (folder / "new.txt").write_text(RUSSIAN * 5)
    segments, facts = counts()
    assert (segments, facts["passages"]) == (1, None)  # one of 400 characters
    said = runner.invoke(app, ["info", "-c", str(place)]).stdout
    assert "600 characters, whatever the model reads of them" in said and "trimodal index --rebuild PATH" in said

    segments, facts = counts("--rebuild")
    assert segments > 80 and facts["passages"] == {"tokens": 256, "overlap": 0.25}
    assert "256 of the model's own tokens at most" in runner.invoke(app, ["info", "-c", str(place)]).stdout
    assert counts()[0] == 0


def test_a_model_that_does_not_say_what_it_reads_gets_passages_of_characters(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    assert rule_of(encoder) is None
    limits = MediaLimits(passage_chars=10)
    assert cut_by(PassageRule(), encoder)("aaaa bbbb cccc", limits, None) == ["aaaa bbbb", "cccc"]


@pytest.mark.parametrize(
    "rule", [{"tokens": 0, "overlap": 0.1}, {"tokens": 5, "overlap": 0.9}, {"tokens": "5"}, [1], 3]
)
def test_a_rule_that_is_none_is_damage(rule: Any, tmp_path: Path) -> None:
    from indexer.crc import crc32_of_json

    made(tmp_path / "c", FakeEncoder(), PassageRule(20)).close()
    file = tmp_path / "c" / "collection.json"
    values = json.loads(file.read_text())
    assert parse_description(file.read_bytes(), file).passages == PassageRule(20)
    values["passages"] = rule
    del values["check"]
    text = json.dumps({**values, "check": crc32_of_json(values)})
    with pytest.raises(IndexDamaged, match=r"collection\.json: is damaged"):
        parse_description(text.encode(), file)


def test_an_unfinished_rebuild_with_another_rule_is_begun_anew(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    (tmp_path / "a.txt").write_text("words")
    identity = EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim)
    Collection.create(tmp_path / "c", identity).close()
    beside = Collection.create(tmp_path / "c.rebuilding", identity, PassageRule(20))
    with beside:
        build(beside, find_items([tmp_path / "a.txt"]), encoder)
    held = []

    def run(target: Collection) -> Any:
        held.append(target.count)
        return build(target, find_items([tmp_path / "a.txt"]), encoder)

    rebuild(tmp_path / "c", identity, run, PassageRule(30))
    with Collection.open(tmp_path / "c") as opened:
        assert (held, opened.passage_rule) == ([0], PassageRule(30))


def test_a_benchmarks_passages_are_kept_by_how_they_are_cut(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval.evaluation import encoding
    from retrieval.evaluation.cache import BenchCache

    encoder = open_encoder(str(model))
    path = tmp_path / "a.txt"
    path.write_text(RUSSIAN * 4)
    item = Item(str(path), Modality.TEXT, path)
    sizes = []
    with BenchCache.open(tmp_path / "cache", encoder, encoder.fingerprint) as cache:
        for rule in (None, PassageRule(), PassageRule(20), PassageRule()):
            monkeypatch.setattr(encoding, "rule_of", lambda _, rule=rule: rule)
            cut = cut_by(rule, encoder)
            reading = encoding._Reading(encoder, Modality.TEXT, MediaLimits(), 4, 1, False, cut, cache)
            vectors, _, skipped = reading.run({0: item}, lambda *_: None)
            assert not skipped
            sizes.append(len(vectors[0]))
    assert sizes[0] == 1 < sizes[1] == sizes[3] < sizes[2]
    assert cache.to_json()["text"] == {"found": 1, "computed": 3}


def test_a_model_that_cannot_be_opened_is_no_fault_of_the_text(tmp_path: Path) -> None:
    import shutil

    from indexer.errors import WeightsMissing

    place = save_small_model(tmp_path / "small")
    encoder = open_encoder(str(place))
    shutil.rmtree(place / "lm")
    (tmp_path / "a.txt").write_text("words")
    with made(tmp_path / "c", encoder, rule_of(encoder)) as collection:
        with pytest.raises(WeightsMissing, match="lm"):
            build(collection, find_items([tmp_path / "a.txt"]), encoder)
        assert collection.catalog.bad_files() == {}


def test_a_sound_whose_windows_are_more_than_a_file_may_take_is_read_in_parts(tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000 * 60, np.float32), 16_000)
    item = Item(str(path), Modality.AUDIO, path)
    limits = MediaLimits(max_decoded_mb=4)
    with pytest.raises(MediaError, match="MB of memory to read, over the 4 MB limit"):
        decode(item, limits)


# -- queries ---------------------------------------------------------------------------------------------------------


def test_a_query_that_is_longer_than_the_model_reads_is_the_mean_of_its_parts_by_their_length(model: Path) -> None:
    encoder = open_encoder(str(model))
    long = "a bridge over the river. " * 2 + "rain"
    parts = ["a bridge over the river.", "a bridge over the river. rain"]
    rows = encoder.encode_queries(parts)
    mean = (rows * [[len(part)] for part in parts]).sum(axis=0)
    found = [one.vector for one in embed_texts(["a short one", long], encoder)]
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(found[0], encoder.encode_queries(["a short one"])[0], atol=1e-5)
    assert embed_texts([], encoder) == []


def test_a_long_query_is_warned_of_alone_in_a_combination_and_in_a_table(model: Path, tmp_path: Path) -> None:
    from retrieval.batch import read_queries, search_all

    encoder = open_encoder(str(model))
    notes(tmp_path / "notes")
    with made(tmp_path / "c", encoder, rule_of(encoder)) as collection:
        build(collection, find_items([tmp_path / "notes"]), encoder)
    said = f"'{RUSSIAN[:37]}...': 162 characters are more than the model reads at once; the query is the mean of "
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("short", RUSSIAN * 2)))
    with Searcher.open(tmp_path / "c", model=str(model)) as searcher:
        result = searcher.search(RUSSIAN * 2)
        assert [warning[: len(said)] for warning in result.warnings] == [said]
        assert searcher.search("short").warnings == ()
        combined = Query((*Query.text("short").parts, *Query.text(RUSSIAN * 2).parts))
        assert len(searcher.search(combined).warnings) == 1
        short, long = search_all(searcher, read_queries(tmp_path / "q.jsonl", {}))
        assert short.result is not None and long.result is not None
        assert (short.result.warnings, long.result.warnings) == ((), result.warnings)
        assert [hit.score for hit in long.result] == pytest.approx([hit.score for hit in result], abs=1e-5)


def test_a_query_of_what_the_model_reads_is_encoded_as_it_stands() -> None:
    class Counting(FakeEncoder):
        def open_text_measure(self) -> CountMeasure:
            return CountMeasure(len, 12)

    encoder = Counting()
    seen: list[list[str]] = []
    real = encoder.encode_queries
    encoder.encode_queries = lambda texts: seen.append(list(texts)) or real(texts)  # type: ignore[method-assign,func-returns-value]
    embed_texts(["  two\n words ", "twelve lette"], encoder)
    embed_texts(["twelve letters"], encoder)
    assert seen == [["  two\n words ", "twelve lette"], ["twelve", "letters"]]
    assert asdict(PassageRule()) == {"tokens": 256, "overlap": 0.25}
