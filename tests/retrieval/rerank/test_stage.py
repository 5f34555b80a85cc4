"""Searching with a second stage: the order, the scores, what is cut off, and what stands in the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.errors import CollectionError, EncoderMismatch, ModelError, UsageError
from indexer.items import Embeddings, Modality, Skipped
from retrieval import Query, QueryPart, Searcher, SearchResult
from retrieval.present import hits_table
from retrieval.query import build_query
from retrieval.rerank.captions import Captioned, caption_files

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


class Dice:
    """Logits by a hash of the text and the tokens, in [-3, 3]; counts what it was asked."""

    token_spec: TokenSpec = FakeEncoder.token_spec  # type: ignore[assignment]
    identity = ""

    def __init__(self, media: frozenset[Modality] = frozenset({IMAGE}), constant: float | None = None) -> None:
        self.media = media
        self.constant = constant
        self.asked: list[int] = []

    def supports(self, query: Modality, candidate: Modality) -> bool:
        return {query, candidate} & {IMAGE, AUDIO} <= self.media and (query is TEXT) != (candidate is TEXT)

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> NDArray[np.float32]:
        self.asked.append(len(tokens))
        return np.array([self.logit(text, row) for row in tokens], dtype=np.float32)

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        assert len(tokens) == 1
        self.asked.append(len(texts))
        return np.array([self.logit(text, tokens[0]) for text in texts], dtype=np.float32)

    def logit(self, text: str, row: NDArray[np.uint8]) -> float:
        if self.constant is not None:
            return self.constant
        digest = hashlib.blake2s(text.encode() + row.tobytes()).digest()
        return 6.0 * int.from_bytes(digest[:4], "big") / 2**32 - 3.0

    def missing(self) -> str | None:
        return None

    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError

    def cosine_weight(self, modality: Modality) -> float:
        return 1.0

    def probability(self, scores: NDArray[np.float32], modality: Modality) -> NDArray[np.float32]:
        return np.asarray(1.0 / (1.0 + np.exp(-scores)), dtype=np.float32)

    def read(self, texts: Sequence[str]) -> None:
        pass

    def require_captions(self) -> None:
        pass

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        return [f"{beams} beams" for _ in tokens]


class Bare(FakeEncoder):
    """The same towers without a reranker."""

    token_spec = None


def make(where: Path, *paths: Path, tokens: TokenSpec | None = FakeEncoder.token_spec) -> Path:
    encoder = FakeEncoder()
    with Collection.open_or_create(
        where, EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim, tokens)
    ) as collection:
        assert build(collection, find_items(paths), encoder).skipped == []
    return where


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    rows: list[dict[str, Any]] = []
    for year, colour in enumerate(COLOURS, start=2000):
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "metadata": {"year": year}})
    rows += [{"id": f"t{i}", "text": f"words of {colour} things"} for i, colour in enumerate(COLOURS[:5])]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def home(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("collection") / "c", media / "all.jsonl")


@pytest.fixture
def opened(home: Path) -> Iterator[Collection]:
    with Collection.open(home) as collection:
        yield collection


def searcher(collection: Collection, reranker: Any = "auto") -> Searcher:
    return Searcher(collection, FakeEncoder(), device="cpu", reranker=reranker)


def ids(result: SearchResult) -> list[int]:
    return [hit.vector_id for hit in result]


def brute_force(collection: Collection, dice: Dice, text: str, depth: int) -> list[tuple[float, int]]:
    """(score, vector_id) of the pictures: the ``depth`` best by cosine anew, then the rest."""
    vector = FakeEncoder().encode_queries([text])[0]
    pictures = collection.catalog.vector_ids(IMAGE)
    cosines = collection.vectors.get(pictures) @ vector
    order = sorted(zip(-cosines, pictures.tolist(), strict=True))
    assert collection.tokens is not None
    top = []
    for negative, vector_id in order[:depth]:
        row = collection.tokens.get(np.array([vector_id]))[0]
        top.append((float(np.float32(dice.logit(text, row)) - negative), vector_id))
    rest = [(float(-negative), vector_id) for negative, vector_id in order[depth:]]
    return sorted(top, key=lambda one: (-one[0], one[1])) + rest


# ------------------------------------------------------------------------------------------- the order


class WithTexts(Dice):
    """Judges texts against texts too."""

    def supports(self, query: Modality, candidate: Modality) -> bool:
        return (query, candidate) == (TEXT, TEXT) or super().supports(query, candidate)

    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(len(texts))
        return np.array([-float(len(one)) for one in texts], dtype=np.float32)


class WithoutItsReader(Dice):
    """Lacks what it reads with."""

    def missing(self) -> str | None:
        return "the reader is not here; get it with a command"


def test_a_reranker_that_lacks_something_is_left_out_and_says_what(opened: Collection) -> None:
    dice = WithoutItsReader()
    result = searcher(opened, dice).search("red", k=3, modalities=["image"])
    assert result.score_kind == "cosine" and not dice.asked
    assert list(result.warnings) == ["the reader is not here; get it with a command"]
    assert searcher(opened, dice).search("red", k=3, modalities=["image"], rerank=False).warnings == ()
    assert searcher(opened, dice).search("red", k=3, modalities=["text"]).warnings == ()


def test_texts_against_texts_are_judged_when_that_is_asked_for(opened: Collection) -> None:
    reranker = WithTexts()
    query = Query((QueryPart(TEXT, "red"),), k=5, modalities=frozenset({TEXT}))
    plain = searcher(opened, reranker).search(query)
    assert not reranker.asked and all(hit.match_logit is None for hit in plain)
    judged = searcher(opened, reranker).search(query, rerank=True)
    assert reranker.asked == [5] and {*ids(judged)} == {*ids(plain)}
    logits = [hit.match_logit for hit in judged]
    assert logits == [-float(len(hit.text or "")) for hit in judged]
    scores = [hit.score for hit in judged]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("depth", [1, 3, 8, 100])
def test_the_best_are_sorted_by_logit_plus_cosine_and_the_rest_follows_as_it_was(
    opened: Collection, depth: int
) -> None:
    dice = Dice()
    result = searcher(opened, dice).search("red", k=8, modalities=["image"], rerank_depth=depth)
    expected = brute_force(opened, dice, "red", depth)
    assert ids(result) == [vector_id for _, vector_id in expected]
    assert result.score_kind == "match"
    assert dice.asked == [min(depth, 8)]
    judged = result[:depth]
    assert [hit.score for hit in judged] == pytest.approx([score for score, _ in expected[:depth]], abs=1e-5)
    for hit in judged:
        assert hit.match_logit is not None and hit.match_probability is not None
        assert hit.score == pytest.approx(hit.match_logit + hit.cosine, abs=1e-5)
        assert hit.match_probability == pytest.approx(1 / (1 + np.exp(-hit.score)), abs=1e-5)
    assert all(hit.match_probability is None and hit.match_logit is None for hit in result[depth:])
    assert [hit.score for hit in result] == sorted((hit.score for hit in result), reverse=True)


def test_the_depth_reaches_past_k(opened: Collection) -> None:
    dice = Dice()
    best = brute_force(opened, dice, "red", 8)[0][1]
    assert ids(searcher(opened, dice).search("red", k=1, modalities=["image"])) == [best]


def test_equal_scores_come_by_rising_vector_id(media: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (16, 12), "red").save(tmp_path / f"{name}.png")
    with Collection.open(make(tmp_path / "c", tmp_path, media / "blue.png")) as collection:
        result = searcher(collection, Dice(constant=0.0)).search("red", k=4)
        plain = searcher(collection, Dice()).search("red", k=4, rerank=False)
    assert ids(result)[:3] == sorted(ids(result)[:3])
    assert ids(result) == ids(plain)  # a reranker that says nothing changes nothing
    assert result[3].path.stem == "blue"


def test_a_filter_is_applied_before_the_judging(opened: Collection) -> None:
    dice = Dice()
    result = searcher(opened, dice).search("red", k=8, modalities=["image"], where="year >= 2004")
    assert dice.asked == [4]
    passed = {hit.vector_id for hit in result}
    assert ids(result) == [i for _, i in brute_force(opened, dice, "red", 8) if i in passed]
    assert all(hit.metadata["year"] >= 2004 for hit in result)  # type: ignore[operator]


def test_no_rerank_is_the_plain_order_and_its_stage_has_no_time(opened: Collection) -> None:
    dice = Dice()
    plain = searcher(opened, dice).search("red", k=3, modalities=["image"], rerank=False)
    assert dice.asked == []
    assert (plain.score_kind, plain.timings_ms["rerank"], plain[0].match_probability) == ("cosine", None, None)
    judged = searcher(opened, dice).search("red", k=3, modalities=["image"])
    assert judged.timings_ms["rerank"] is not None


def test_a_picture_is_judged_against_texts_from_its_own_tokens(opened: Collection, media: Path) -> None:
    dice = Dice()
    asks = Query((QueryPart(IMAGE, media / "blue.png"),), k=5, modalities=frozenset({TEXT}))
    assert searcher(opened, dice).search(asks).score_kind == "cosine" and not dice.asked  # reading texts takes seconds
    result = searcher(opened, dice).search(asks, rerank=True)
    encoder = FakeEncoder()
    with Image.open(media / "blue.png") as picture:
        vectors, tokens = encoder.encode_images_with_tokens([encoder.prepare_image(picture)])
    for hit in result:
        assert hit.text is not None
        assert hit.match_logit == pytest.approx(dice.logit(hit.text, tokens[0]))
        assert hit.cosine == pytest.approx(float(encoder.encode_passages([hit.text])[0] @ vectors[0]), abs=1e-5)
    assert [hit.score for hit in result] == sorted((hit.score for hit in result), reverse=True)
    assert result.score_kind == "match"


def test_among_several_modalities_the_places_stay_and_the_judged_order_fills_them(opened: Collection) -> None:
    dice = Dice()
    plain = searcher(opened, dice).search("red", k=13, rerank=False)
    result = searcher(opened, dice).search("red", k=13)
    assert result.score_kind == "standard"
    assert [hit.modality for hit in result] == [hit.modality for hit in plain]
    assert (plain.order, result.order) == ("score", "places")
    own = {hit.vector_id: hit.score for hit in plain}
    assert {hit.vector_id: hit.score for hit in result} == own  # the scores went with their hits
    assert all(hit.score == hit.standard_score for hit in result)
    pictures = [hit.vector_id for hit in result if hit.modality is IMAGE]
    assert pictures == [vector_id for _, vector_id in brute_force(opened, dice, "red", 64)]
    texts = [hit for hit in result if hit.modality is TEXT]
    assert [hit.vector_id for hit in texts] == [hit.vector_id for hit in plain if hit.modality is TEXT]
    assert all((hit.match_probability is None) == (hit.modality is TEXT) for hit in result)


def test_a_group_that_was_judged_is_in_the_judged_order_with_every_hits_own_figures(opened: Collection) -> None:
    dice = Dice()
    result = searcher(opened, dice).search("red", k=4)
    groups = {group.modality: group.hits for group in result.groups}
    assert set(groups) == {IMAGE, TEXT}
    expected = [vector_id for _, vector_id in brute_force(opened, dice, "red", 64)]
    assert [hit.vector_id for hit in groups[IMAGE]] == expected[:4]
    chances = [hit.match_probability or 0.0 for hit in groups[IMAGE]]
    assert chances == sorted(chances, reverse=True) and all(chances)
    assert [hit.rank for hit in groups[TEXT]] == [1, 2, 3, 4]
    assert all(hit.match_probability is None for hit in groups[TEXT])


# ------------------------------------------------------------------------------------ the probability


def test_hits_below_the_asked_probability_are_left_out(opened: Collection) -> None:
    whole = searcher(opened, Dice()).search("red", k=20)
    query = Query.text("red", k=20, min_probability=0.5)
    some = searcher(opened, Dice()).search(query)
    assert 0 < len(some) < len(whole)
    assert ids(some) == [h.vector_id for h in whole if h.match_probability is not None and h.match_probability >= 0.5]
    assert [hit.rank for hit in some] == list(range(1, len(some) + 1))
    assert some.warnings == ()


def test_nothing_matches_is_said_with_the_best_probability(opened: Collection) -> None:
    query = Query.text("red", modalities=["image"], min_probability=0.5)
    result = searcher(opened, Dice(constant=-5.0)).search(query)
    best = float(np.max(1 / (1 + np.exp(5.0 - brute_force_cosine(opened, "red")))))
    assert list(result) == []
    assert result.warnings == (
        f"nothing matches: no candidate reaches a match probability of 0.50 (the best has {best:.2f})",
    )
    console = Console(width=80)
    with console.capture() as printed:
        console.print(hits_table(result))
    assert printed.get().strip() == "nothing matches"


def brute_force_cosine(collection: Collection, text: str) -> float:
    rows = collection.vectors.get(collection.catalog.vector_ids(IMAGE))
    return float((rows @ FakeEncoder().encode_queries([text])[0]).max())


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_probability_is_from_0_to_1(value: float) -> None:
    with pytest.raises(UsageError, match="--min-probability is .*; it is a number from 0 to 1"):
        build_query("red", min_probability=value)


def test_a_probability_where_nothing_can_be_judged_is_a_usage_error(home: Path, opened: Collection) -> None:
    query = Query.text("red", min_probability=0.5)
    with pytest.raises(UsageError, match="--min-probability needs the reranker; leave out --no-rerank"):
        searcher(opened, Dice()).search(query, rerank=False)
    with pytest.raises(UsageError, match="--min-probability needs the reranker: model fake: has no reranker"):
        searcher(opened, None).search(query)
    with pytest.raises(UsageError, match=r"needs the reranker: the reranker cannot judge text against text") as error:
        searcher(opened, Dice()).search(query, modalities=["text"])
    assert str(error.value).endswith("; leave out --min-probability") and "--no-rerank" not in str(error.value)
    with pytest.raises(UsageError, match="has no reranker; leave out --min-probability$"):
        searcher(opened, None).search(query)


def test_a_probability_without_media_tokens_names_the_two_ways_out(media: Path, tmp_path: Path) -> None:
    with Collection.open(make(tmp_path / "c", media / "all.jsonl", tokens=None)) as collection:
        query = Query.text("red", min_probability=0.5)
        with pytest.raises(UsageError, match="--rebuild PATH..., or leave out --min-probability$"):
            searcher(collection, Dice()).search(query)


# ---------------------------------------------------------------------------------- what stands in the way


def test_a_collection_without_tokens_is_searched_plainly_with_one_warning(media: Path, tmp_path: Path) -> None:
    with Collection.open(make(tmp_path / "c", media / "all.jsonl", tokens=None)) as collection:
        looks = searcher(collection, Dice())
        result = looks.search("red", k=3, modalities=["image"])
        assert (len(result), result.score_kind) == (3, "cosine")
        assert len(result.warnings) == 1 and "no media tokens" in result.warnings[0]
        with pytest.raises(CollectionError, match="no media tokens"):
            looks.search("red", rerank=True)
        # a picture that asks brings its own tokens, and texts have none
        picture = Query((QueryPart(IMAGE, media / "red.png"),), modalities=frozenset({TEXT}))
        assert looks.search(picture, rerank=True).score_kind == "match"


def test_tokens_of_another_reranker_are_not_read(opened: Collection) -> None:
    other = Dice()
    other.token_spec = TokenSpec(4, 16, "other")
    with pytest.raises(EncoderMismatch, match="another reranker"):
        searcher(opened, other).search("red", rerank=True)
    assert len(searcher(opened, other).search("red").warnings) == 1


def test_directions_that_nobody_judges_say_what_is_supported(opened: Collection, media: Path) -> None:
    looks = searcher(opened, Dice())
    supported = "it reranks text against pictures, and pictures against texts"
    picture = QueryPart(IMAGE, media / "red.png")
    for query in (
        Query((picture,), modalities=frozenset({IMAGE})),
        Query.text("red", modalities=["text"]),
        Query((QueryPart(TEXT, "red"), QueryPart(TEXT, "blue", -0.5))),
        Query((picture, QueryPart(TEXT, "red"))),
    ):
        with pytest.raises(UsageError, match=supported):
            looks.search(query, rerank=True)
        result = looks.search(query)
        assert result.warnings == () and all(hit.match_probability is None for hit in result)


def test_a_model_without_a_reranker_searches_plainly_and_cannot_be_asked(opened: Collection) -> None:
    looks = Searcher(opened, Bare(), device="cpu")
    assert looks.reranker is None
    assert looks.search("red").warnings == ()
    with pytest.raises(ModelError, match="has no reranker"):
        looks.search("red", rerank=True)


def test_the_models_own_reranker_is_used_by_default_and_agrees_with_the_cosines(opened: Collection) -> None:
    result = searcher(opened).search("red", k=8, modalities=["image"])
    plain = searcher(opened).search("red", k=8, modalities=["image"], rerank=False)
    assert result[0].path.stem == plain[0].path.stem == "red"
    assert result[0].match_probability is not None


def test_the_json_has_the_new_keys_beside_the_old(opened: Collection) -> None:
    document = searcher(opened).search("red", k=2, modalities=["image"]).to_json()
    assert json.loads(json.dumps(document)) == document
    old = {"query", "hits", "timings_ms", "score_kind", "warnings", "order", "groups"}
    assert set(document) == old | {"match_probability", "matches"}
    assert set(document["hits"][0]) == {
        "rank", "score", "cosine", "match_probability", "match_logit", "modality", "path", "start_s", "end_s", "text",
        "caption", "metadata", "key", "vector_id", "standard_score", "is_query",
    }  # fmt: skip
    assert set(document["timings_ms"]) == {"encode", "search", "rerank"}
    assert document["query"]["min_probability"] is None


# ------------------------------------------------------------------------------------------- captions


def test_every_picture_gets_its_words_and_a_bad_one_its_reason(media: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG nothing")
    found = list(caption_files([media / "red.png", bad, media / "blue.png"], FakeEncoder(), Dice(), beams=2))
    assert found[0] == Captioned(media / "red.png", "2 beams")
    assert isinstance(found[1], Skipped) and found[1].path.endswith("bad.png")
    assert found[2] == Captioned(media / "blue.png", "2 beams")
    with pytest.raises(ModelError, match="cannot caption"):
        list(caption_files([media / "red.png"], Bare(), Dice()))


# ------------------------------------------------------------------------------------- the command line


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands_take_the_reranker_options(home: Path, media: Path) -> None:
    judged = run("search", "red", "-c", home, "-m", "image", "--json", "--rerank-depth", "2")
    document = json.loads(judged.stdout)
    assert document["score_kind"] == "match"
    assert [hit["match_probability"] is None for hit in document["hits"][:3]] == [False, False, True]
    assert "match" in run("search", "red", "-c", home, "-m", "image", "--rerank").stdout.splitlines()[0]
    plain = json.loads(run("search", "red", "-c", home, "-m", "image", "--json", "--no-rerank").stdout)
    assert plain["score_kind"] == "cosine"
    nothing = run("search", "nonsense", "-c", home, "-m", "image", "--min-probability", "0.99")
    assert (nothing.exit_code, nothing.stdout.strip()) == (0, "nothing matches")
    assert "no candidate reaches a match probability of 0.99" in nothing.stderr
    unsupported = run("search", "--image", media / "red.png", "-c", home, "-m", "image", "--rerank")
    assert unsupported.exit_code == 2
    assert "cannot judge image against image" in unsupported.stderr
    assert run("search", "red", "-c", home, "--min-probability", "1.5").exit_code == 2


def test_caption_prints_a_line_a_picture_and_skips_a_bad_one(media: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG nothing")
    done = run("caption", media / "red.png", bad, media / "blue.png", "--model", "fake")
    assert done.exit_code == 1
    assert done.stdout == f"{media}/red.png: a red picture\n{media}/blue.png: a blue picture\n"
    assert f"skipped {bad}: " in done.stderr
    document = json.loads(run("caption", media / "red.png", "--model", "fake", "--json").stdout)
    assert document == {"captions": [{"path": f"{media}/red.png", "caption": "a red picture"}], "skipped": []}


def test_bench_reranks_unless_told_not_to(media: Path) -> None:
    manifest = media / "captions.jsonl"
    rows = [{"image": f"{colour}.png", "captions": [f"a {colour} one"]} for colour in COLOURS]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    document = json.loads(run("bench", manifest, "--model", "fake", "--json", "--rerank-depth", "3").stdout)
    assert [one["stage"] for one in document["results"]] == ["dual", "rerank"] * 2
    assert document["reranker"]["rerank_depth"] == 3
    plain = json.loads(run("bench", manifest, "--model", "fake", "--json", "--no-rerank").stdout)
    assert [one["stage"] for one in plain["results"]] == ["dual"] * 2


def test_index_keeps_the_media_tokens_and_info_tells_of_them(media: Path, tmp_path: Path) -> None:
    assert run("index", media / "red.png", "-c", tmp_path / "c", "--model", "fake").exit_code == 0
    told = json.loads(run("info", "-c", tmp_path / "c", "--json").stdout)
    assert told["tokens"]["count"] == 4
