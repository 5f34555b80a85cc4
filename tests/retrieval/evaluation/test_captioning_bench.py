"""``bench --captions``: the metrics by hand and against their libraries, what is told, and the reports."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import Result
from nltk.translate.meteor_score import meteor_score
from PIL import Image
from printed import as_text
from pycocoevalcap.cider.cider import Cider
from sacrebleu import corpus_bleu
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.encoders.fake import FakeEncoder
from indexer.encoders.tokens.format import TokenRows
from indexer.errors import MissingExtra, ModelError, UsageError
from indexer.items import Embeddings
from retrieval.evaluation.captioning import caption_benchmark
from retrieval.evaluation.datasets.benchmark import Benchmark, load_benchmark
from retrieval.evaluation.encoding import encode_benchmark
from retrieval.evaluation.metrics import caption_metrics
from retrieval.evaluation.metrics.caption_metrics import find_wordnet, score_captions, tokenised
from retrieval.evaluation.report.markdown import as_markdown
from retrieval.evaluation.runner import run_benchmark
from retrieval.rerank.fake import FakeReranker

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
SENTENCES = ["a small red car stands on the road", "two blue birds sit on a wire", "the cat sat on the mat"]


# -- the metrics ----------------------------------------------------------------------------------------------


def test_perfect_captions_have_the_highest_scores() -> None:
    scores = score_captions(SENTENCES, [[sentence.upper()] for sentence in SENTENCES])
    assert scores.bleu4 == pytest.approx(100.0)
    # one chunk: the penalty of n words is 0.5 * (1/n)^3
    words = [len(sentence.split()) for sentence in SENTENCES]
    assert scores.meteor == pytest.approx(np.mean([1 - 0.5 / n**3 for n in words]))
    assert scores.cider == pytest.approx(10.0)


def test_empty_captions_have_the_lowest() -> None:
    scores = score_captions(["", "", ""], [[sentence] for sentence in SENTENCES])
    assert (scores.bleu4, scores.meteor, scores.cider) == (0.0, 0.0, 0.0)
    some = score_captions([SENTENCES[0], "", ""], [[sentence] for sentence in SENTENCES])
    assert 0 < some.bleu4 < 100 and 0 < some.meteor < 1 and 0 < some.cider < 10


def test_bleu_by_hand() -> None:
    found = caption_metrics.bleu4(["The cat sat on mat"], [["the cat sat on the mat"]])
    precision = (5 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    assert found == pytest.approx(100 * math.exp(1 - 6 / 5) * precision)


def test_captions_without_four_words_among_them_have_a_bleu_of_0() -> None:
    assert caption_metrics.bleu4(["a red car"], [["a red car"]]) == 0.0


def test_meteor_by_hand() -> None:
    # two of three words, one chunk: F = 2/3, penalty 0.5 * (1/2)^3; the better reference counts
    assert caption_metrics.meteor(["a red dog"], [["a red car", "nothing else"]]) == pytest.approx(2 / 3 * (1 - 0.0625))
    assert caption_metrics.meteor(["red cars"], [["red car"]]) == pytest.approx(1 - 0.5 / 8)  # by the stem


def test_cider_by_hand() -> None:
    # every n-gram stands with one of two pictures: all weigh log 2. First: 1/2 of the words, none of the pairs; second:
    # all words and the pair; neither has three words
    found = caption_metrics.cider(["red bus", "blue dog"], [["red car"], ["blue dog"]])
    assert found == pytest.approx(10 * np.mean([(1 / 2) / 4, (1 + 1) / 4]))
    assert caption_metrics.cider(["red car"], [["red car"]]) == 0.0  # nothing is rare among one


def test_the_scores_are_those_of_the_libraries_own_calls() -> None:
    captions = ["A red car, on a road.", "two birds", "the cat's mat is here now"]
    references = [
        ["A small red car on the road", "there is a car"], ["Two blue birds sit on a wire."],
        ["the cat sat on the mat", "A cat's mat", "it is here now"],
    ]  # fmt: skip
    scores = score_captions(captions, references)
    streams = [[some[n] if n < len(some) else None for some in references] for n in range(3)]
    assert scores.bleu4 == corpus_bleu(captions, streams, lowercase=True, tokenize="13a").score  # type: ignore[arg-type]
    said = [tokenised(caption) for caption in captions]
    meant = [[tokenised(reference) for reference in some] for some in references]

    class Nothing:
        def synsets(self, word: str) -> list[str]:
            return []

    each = [
        meteor_score([one.split() for one in some], caption.split(), wordnet=Nothing())
        for caption, some in zip(said, meant, strict=True)
    ]
    assert scores.meteor == pytest.approx(sum(each) / 3)
    assert scores.cider == Cider().compute_score(dict(enumerate(meant)), {n: [one] for n, one in enumerate(said)})[0]
    assert scores.meteor_matches == "exact, stem"


def test_a_punctuation_mark_is_a_token_of_its_own_in_lower_case() -> None:
    assert tokenised("A man's well-known car, red.") == "a man's well-known car , red ."
    assert tokenised(" ") == ""


def small_wordnet(folder: Path) -> Path:
    """A database with one meaning: car, auto."""
    folder.mkdir(parents=True)
    for name in ("cntlist.rev", *(f"{kind}.{pos}" for kind in ("index", "data") for pos in ("adj", "adv", "verb"))):
        (folder / name).write_text("")
    for pos in ("adj", "adv", "noun", "verb"):
        (folder / f"{pos}.exc").write_text("")
    (folder / "data.noun").write_text("00000000 06 n 02 car 0 auto 0 000 | a motor vehicle  \n")
    (folder / "index.noun").write_text("auto n 1 0 1 0 00000000  \ncar n 1 0 1 0 00000000  \n")
    return folder


def test_words_of_one_meaning_match_where_wordnet_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path))
    assert find_wordnet() is None
    folder = small_wordnet(tmp_path / "packages" / "unpacked" / "wordnet-base-0" / "usr" / "share" / "wordnet")
    assert find_wordnet() == folder
    without = score_captions(["a red auto"], [["a red car"]])
    scores = score_captions(["a red auto"], [["a red car"]], wordnet=folder)
    assert without.meteor == pytest.approx(2 / 3 * (1 - 0.0625))
    assert scores.meteor == pytest.approx(1 - 0.5 / 27)
    assert (scores.bleu4, scores.cider) == (without.bleu4, without.cider)
    assert scores.meteor_matches == "exact, stem, WordNet synonyms"


def test_captions_without_references_are_refused() -> None:
    for captions, references in (([], []), (["a"], []), (["a"], [[]])):
        with pytest.raises(ValueError, match="each needs one or more"):
            score_captions(captions, references)


def test_a_missing_extra_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_nltk(name: str) -> ModuleType:
        if name.startswith("nltk"):
            raise ModuleNotFoundError("no nltk", name="nltk")
        return importlib.import_module(name)

    monkeypatch.setattr(caption_metrics, "import_module", without_nltk)
    with pytest.raises(MissingExtra, match=r"metrics of captions need nltk: pip install 'trimodal\[captions\]'"):
        score_captions(["a"], [["a"]])


# -- the benchmark --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    rows: list[dict[str, object]] = []
    for colour in COLOURS:
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "captions": [f"a {colour} picture", "a picture of one colour"]})
    Image.new("RGB", (16, 12), "orange").save(folder / "plain.png")
    (folder / "bad.png").write_bytes(b"\x89PNG nothing")
    rows += [{"image": "plain.png"}, {"image": "bad.png", "captions": ["none"]}]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "m.jsonl"


@pytest.fixture(scope="module")
def benchmark(manifest: Path) -> Benchmark:
    return load_benchmark(manifest)


class Counting(FakeReranker):
    """Remembers the beams, and says what it is given in order."""

    def __init__(self, says: list[str] | None = None) -> None:
        super().__init__()
        self.says = says
        self.beams: set[int] = set()

    def read(self, texts: Sequence[str]) -> None:
        pass

    def require_captions(self) -> None:
        pass

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        self.beams.add(beams)
        if self.says is None:
            return super().caption(tokens, vectors, beams=beams, max_words=max_words)
        return [self.says.pop(0) for _ in tokens]


def test_pictures_with_captions_are_told_and_compared(benchmark: Benchmark) -> None:
    told: list[tuple[int, int, str]] = []
    teller = Counting()
    result = run_benchmark(
        benchmark, FakeEncoder(), captioner=teller, caption_beams=5,
        progress=lambda stage, done, total: told.append((done, total, stage)),
    )  # fmt: skip
    assert result.captions is not None
    assert (result.captions.pictures, result.captions.references, result.captions.beams) == (6, 12, 5)
    assert teller.beams == {5}
    assert (6, 6, "captioning") in told
    expected = score_captions(
        [f"a {colour} picture" for colour in COLOURS],
        [[f"a {colour} picture", "a picture of one colour"] for colour in COLOURS], wordnet=find_wordnet(),
    )  # fmt: skip
    assert result.captions.scores == expected
    assert [one.path for one in result.captions.examples] == [f"{colour}.png" for colour in COLOURS]
    assert result.captions.examples[0].references == ("a red picture", "a picture of one colour")


def test_the_directions_are_the_same_with_and_without_captions(benchmark: Benchmark) -> None:
    plain = run_benchmark(benchmark, FakeEncoder())
    result = run_benchmark(benchmark, FakeEncoder(), captioner=FakeReranker())
    assert result.results == plain.results
    assert plain.to_json()["captions"] is None
    assert set(result.to_json()["seconds_by_stage"]) == {"encode", "score", "captions"}


def test_twenty_examples_are_spread_over_the_pictures(tmp_path: Path) -> None:
    rows = []
    for n in range(50):
        Image.new("RGB", (8, 8), (5 * n, 0, 0)).save(tmp_path / f"{n:02d}.png")
        rows.append({"image": f"{n:02d}.png", "captions": ["a picture"]})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    says = [f"picture {n}" for n in range(50)]
    result = run_benchmark(load_benchmark(tmp_path / "m.jsonl"), FakeEncoder(), captioner=Counting(says))
    assert result.captions is not None
    names = [one.path for one in result.captions.examples]
    assert (len(names), names[0], names[-1]) == (20, "00.png", "49.png")
    assert all(one.caption == f"picture {int(one.path[:2])}" for one in result.captions.examples)


def test_a_benchmark_without_captioned_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"text": "a text", "captions": ["words"]}) + "\n", encoding="utf-8")
    encoded = encode_benchmark(load_benchmark(tmp_path / "m.jsonl"), FakeEncoder(), with_tokens=True)
    with pytest.raises(UsageError, match="no picture that can be read has captions; leave out --captions"):
        caption_benchmark(encoded, FakeReranker())


def test_pictures_that_the_model_is_unsure_of_are_counted_and_the_metrics_are_of_the_others(
    benchmark: Benchmark,
) -> None:
    says = ["a red picture", "", "scene of a murder", *(f"a {colour} picture" for colour in COLOURS[3:])]
    result = run_benchmark(benchmark, FakeEncoder(), captioner=Counting(says))
    assert result.captions is not None
    assert (result.captions.pictures, result.captions.unsure) == (6, 2)
    given = [colour for place, colour in enumerate(COLOURS) if place not in (1, 2)]
    expected = score_captions(
        [f"a {colour} picture" for colour in given],
        [[f"a {colour} picture", "a picture of one colour"] for colour in given], wordnet=find_wordnet(),
    )  # fmt: skip
    assert result.captions.scores == expected
    document = result.to_json()["captions"]
    assert document["unsure"] == 2
    assert [one["caption"] for one in document["examples"]][:3] == ["a red picture", None, None]
    assert "unsure of 2 pictures, which get no caption" in as_text(result)
    silent = run_benchmark(benchmark, FakeEncoder(), captioner=Counting([""] * 6))
    assert silent.captions is not None and (silent.captions.unsure, silent.captions.scores.cider) == (6, 0.0)


def test_a_reranker_that_tells_too_few_is_refused(benchmark: Benchmark) -> None:
    class Short(FakeReranker):
        def require_captions(self) -> None:
            pass

        def caption(
            self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
        ) -> list[str]:
            return ["one"]

    with pytest.raises(ModelError, match="gives 1 captions for 6 pictures"):
        run_benchmark(benchmark, FakeEncoder(), captioner=Short())


def test_the_reports_hold_the_scores_how_they_were_made_and_the_examples(benchmark: Benchmark) -> None:
    says = ["a red\npicture", "", "x", "y", "z", "\x1b[31mred"]
    result = run_benchmark(benchmark, FakeEncoder(), captioner=Counting(says))
    text, page = as_text(result, width=200), as_markdown(replace(result, dataset="x"))
    for told in (text, page):
        for word in ("BLEU-4", "METEOR", "CIDEr", "lower-cased, sacrebleu's 13a", "METEOR matches: exact, stem"):
            assert word in told
        assert "\x1b" not in told
    assert "red.png: a red picture\n    a red picture\n    a picture of one colour\n" in text
    assert "green.png: (nothing)" in text
    assert "| red.png | a red picture | a red picture / a picture of one colour |" in page


# -- the command line -----------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_scores_and_examples(manifest: Path) -> None:
    printed = run("bench", manifest, "--model", "fake", "--captions").stdout
    assert "BLEU-4" in printed and "blue.png: a blue picture" in printed
    done = run("bench", manifest, "--model", "fake", "--captions", "--no-rerank", "--captions-beams", "2", "--json")
    captions = json.loads(done.stdout)["captions"]
    assert {"bleu4", "meteor", "cider", "pictures", "references", "beams", "examples"} <= set(captions)
    assert (captions["pictures"], captions["references"], captions["beams"]) == (6, 12, 2)
    assert captions["examples"][0] == {
        "path": "red.png", "caption": "a red picture", "references": ["a red picture", "a picture of one colour"],
    }  # fmt: skip
    assert json.loads(run("bench", manifest, "--model", "fake", "--json").stdout)["captions"] is None


def test_what_is_missing_is_said_before_anything_is_measured(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"no {name}", name="sacrebleu")

    monkeypatch.setattr(caption_metrics, "import_module", nothing)
    done = run("bench", manifest, "--model", "fake", "--captions")
    assert done.exit_code == 3
    assert done.stderr.strip() == "trimodal: metrics of captions need sacrebleu: pip install 'trimodal[captions]'"
    monkeypatch.undo()
    monkeypatch.setattr("retrieval.rerank.stage.open_reranker", lambda encoder, device: None)
    done = run("bench", manifest, "--model", "fake", "--captions", "--no-rerank")
    assert done.exit_code == 3
    assert "model fake: has no reranker" in done.stderr
