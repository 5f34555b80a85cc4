"""How near captions come to those that people wrote: BLEU-4, METEOR and CIDEr, by the libraries that define them.

Captions and references are lower-cased. sacrebleu tokenises them itself (13a); METEOR and CIDEr read the same tokens.
Figures of papers are often made with the tokeniser of COCO's Java tools, which leaves punctuation out, so compare with
care. Knows nothing of pictures and models.

    bleu4     0..100   sacrebleu's corpus BLEU (Papineni et al. 2002) of all captions, every reference of each
    meteor    0..1     nltk's METEOR (Banerjee & Lavie 2005): of each caption that of its best reference, then the
                       mean. Words match as they are, by Porter's stem, and as synonyms of WordNet where it is there
                       (nltk looks the stems up)
    cider     0..10    pycocoevalcap's CIDEr-D (Vedantam et al. 2015): cosine of tf-idf n-grams, n = 1..4; how rare an
                       n-gram is, is counted over the references given, so one picture alone has 0
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from indexer.errors import MissingExtra

#: What makes the metrics; lower bounds are in pyproject.toml.
EXTRA = "pip install 'trimodal[captions]'"
_LIBRARIES = ("sacrebleu.metrics.bleu", "nltk.translate.meteor_score", "pycocoevalcap.cider.cider")
TOKENS = "lower-cased, sacrebleu's 13a"


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """The metrics of a set of captions; scales are in the module's docstring."""

    bleu4: float
    meteor: float
    cider: float
    meteor_matches: str
    """How words match in METEOR: ``exact, stem`` or ``exact, stem, WordNet synonyms``."""


def require_caption_metrics() -> None:
    """Raise ``MissingExtra`` with the ``pip install`` that is missing, if one of the libraries is."""
    try:
        for module in _LIBRARIES:
            import_module(module)
    except ImportError as error:
        raise MissingExtra(f"metrics of captions need {error.name or 'an extra package'}: {EXTRA}") from error


def score_captions(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, wordnet: Path | None = None
) -> CaptionScores:
    """Metrics of ``captions[i]``, which may be empty, beside ``references[i]``, at least one.

    ``wordnet`` is a folder with the database of WordNet 3.0 (``data.noun``, ...); without it METEOR knows no synonyms.
    Raises ``ValueError`` where there is no caption or one has no reference, ``MissingExtra`` without the libraries.
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError(f"{len(captions)} captions with {len(references)} lists of references, each needs one or more")
    require_caption_metrics()
    tokens = [tokenised(caption) for caption in captions]
    meant = [[tokenised(reference) for reference in some] for some in references]
    return CaptionScores(
        bleu4=bleu4(captions, references),
        meteor=meteor(tokens, meant, wordnet),
        cider=cider(tokens, meant),
        meteor_matches="exact, stem" + (", WordNet synonyms" if wordnet is not None else ""),
    )


def tokenised(text: str) -> str:
    """``text`` lower-cased and split by sacrebleu's 13a, tokens apart by one space.

    >>> tokenised("A man's well-known car, red.")
    "a man's well-known car , red ."
    """
    from sacrebleu.tokenizers import tokenizer_13a

    library: Any = tokenizer_13a  # its class has no types
    return str(library.Tokenizer13a()(text.lower())).strip()


def bleu4(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU in 0..100. Captions that have no four words among them all give 0."""
    from sacrebleu.metrics.bleu import BLEU

    most = max(map(len, references))
    # None stands for a reference that this caption lacks
    streams: Any = [[some[n] if n < len(some) else None for some in references] for n in range(most)]
    return float(BLEU(lowercase=True, tokenize="13a").corpus_score(list(captions), streams).score)


def meteor(captions: Sequence[str], references: Sequence[Sequence[str]], wordnet: Path | None = None) -> float:
    """Mean METEOR in 0..1 of tokenised captions."""
    from nltk.translate.meteor_score import meteor_score

    net = _NoSynonyms() if wordnet is None else _wordnet(wordnet)
    scores = [
        meteor_score([reference.split() for reference in some], caption.split(), wordnet=net)
        for caption, some in zip(captions, references, strict=True)
    ]
    return float(sum(scores) / len(scores))


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D in 0..10 of tokenised captions."""
    from pycocoevalcap.cider.cider import Cider

    result: Mapping[int, list[str]] = {n: [caption] for n, caption in enumerate(captions)}
    truth: Mapping[int, list[str]] = {n: list(some) for n, some in enumerate(references)}
    return float(Cider().compute_score(truth, result)[0])


def find_wordnet() -> Path | None:
    """WordNet's database in the cache, fetched by ``benchmarks/datasets/wordnet.py`` (Debian's ``wordnet-base``)."""
    from indexer.encoders.weights.base_weights import cache_dir

    found = sorted((cache_dir() / "packages" / "unpacked").glob("wordnet-base-*/usr/share/wordnet/data.noun"))
    return found[-1].parent if found else None


class _NoSynonyms:
    """In the place of nltk's reader."""

    def synsets(self, word: str) -> list[Any]:
        del word
        return []


def _wordnet(folder: Path) -> Any:
    """nltk's reader on a database without ``lexnames``, which Debian leaves out and METEOR does not need."""
    import nltk.data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):  # type: ignore[misc]
        def open(self, file: str) -> Any:
            if file == "lexnames" and not (folder / file).exists():
                return io.StringIO("".join(f"{number:02d}\tfile{number}\t1\n" for number in range(45)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """No map to other versions of WordNet."""

    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))  # nltk opens files in these folders only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other languages' wordnets
        return Reader(str(folder), None)
