"""A tokenizer of a few texts' tokens alone, against the whole one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from indexer.encoders.onnx.subwords import Subwords, has_subwords, write_subwords

CORPUS = [
    "a red bicycle leaning against the wall of an old red house",
    "the sound of rain on a tin roof while somebody plays the piano next door",
    "zwölf boxkämpfer jagen viktor quer über den großen sylter deich, 2019!",
    "思い出の写真と犬", "<|end|>", "don't we'll they've",
]  # fmt: skip


@pytest.fixture(params=["plain", "nfc"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A byte-level BPE trained on a few sentences, with a special token and one around every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if request.param == "nfc":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<s>", "<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tokenizer


def test_texts_have_the_tokens_of_the_whole_tokenizer(whole: Any, tmp_path: Path) -> None:
    assert not has_subwords(tmp_path)
    assert write_subwords(tmp_path / "tokenizer.json", tmp_path) and has_subwords(tmp_path)
    ours = Subwords(tmp_path)
    chance = random.Random(0)
    letters = "abcdehilnorstuwz äöüß'思犬,.!19\n\t" + "e\u0301"
    made = ["".join(chance.choice(letters) for _ in range(chance.randrange(30))) for _ in range(200)]
    parts = [" ".join(chance.sample(" ".join(CORPUS).split(), 5)) for _ in range(50)]
    for text in [*CORPUS, *made, *parts, "", " ", "a<|end|>red house", "rain\u200b"]:
        assert ours.ids(text) == whole.encode(text, add_special_tokens=False).ids, text
    assert ours.around == ([0], [])
    assert not ours.reads("x" * 401)


def test_a_unigram_model_has_the_tokens_of_the_whole_one(tmp_path: Path) -> None:
    whole = Tokenizer(models.Unigram())
    whole.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    whole.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    trainer = trainers.UnigramTrainer(vocab_size=180, unk_token="<unk>", special_tokens=["<s>", "<unk>", "</s>"])
    whole.train_from_iterator(CORPUS * 3, trainer)
    whole.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    whole.save(str(tmp_path / "tokenizer.json"))
    assert write_subwords(tmp_path / "tokenizer.json", tmp_path)
    ours = Subwords(tmp_path)
    assert ours.around == ([0], [2])
    chance = random.Random(1)
    letters = "abcdehilnorstuwz äöüß'思犬ж,.!19\n\t" + "e\u0301ﬁ"
    made = ["".join(chance.choice(letters) for _ in range(chance.randrange(40))) for _ in range(300)]
    for text in [*CORPUS, *made, "", " ", "犬犬犬", "▁"]:
        assert ours.ids(text) == whole.encode(text, add_special_tokens=False).ids, text
    assert ours.reads("a dog") and not ours.reads("a </s> dog")


def test_a_tokenizer_of_another_kind_has_no_tables(tmp_path: Path) -> None:
    Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).save(str(tmp_path / "wordpiece.json"))
    Tokenizer(models.BPE(end_of_word_suffix="</w>")).save(str(tmp_path / "suffix.json"))
    Tokenizer(models.BPE()).save(str(tmp_path / "characters.json"))
    spaced = Tokenizer(models.BPE())
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    spaced.save(str(tmp_path / "spaced.json"))
    Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)).save(str(tmp_path / "uncut.json"))
    for name in ("wordpiece", "suffix", "characters", "spaced", "uncut"):
        assert not write_subwords(tmp_path / f"{name}.json", tmp_path)
    assert not has_subwords(tmp_path)
