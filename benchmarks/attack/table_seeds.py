"""Manifests, tables of queries, published layouts of benchmarks, recipes and conditions, small and valid."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from benchmarks.attack.media_seeds import pictures, sound
from benchmarks.attack.seeds import Seed

_ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "captions": ["one", "two"], "id": "first", "split": "test", "metadata": {"year": 2020}},
    {"audio": "a.wav", "caption": "a tone", "year": 2021, "gps": {"lat": 1.5}},
    {"text": "some words", "id": "3", "note": None},
    {"image": "b/c.png", "text": "both", "captions": "x", "day": "2020-01-02", "tags": ["a", "b"]},
]
_QUERIES: list[dict[str, Any]] = [
    {"text": "a red door", "k": 3, "id": "one"},
    {"image": "a.png", "plus": ["0.5:warm"], "minus": ["text:cold"], "modality": ["image"], "where": "size_bytes > 3"},
    {"audio": "a.wav", "min_score": -1.0, "modality": "audio"},
]
_CONDITIONS = (
    "year >= 2020 and suffix = '.jpg'",
    "(width_px > 10 or duration_s between 0.1 and 5) and not name like '%a!%%' escape '!'",
    "metadata.gps.lat is not null and lower(name) in ('a.png', 'b.png', 'c')",
    "size_bytes in (1, 2, 3, 4, 5, 6) or length(name) <> -4.5 or flag is true",
    "modality = 'image' and taken_at < '2020-01-01' and folder like '%/x%'",
)


def make(work: Path) -> list[Seed]:
    """All of them; ``work`` is not needed."""
    return [*_manifests(), *_queries(), *_layouts(), *_recipes(), *_where()]


def media() -> dict[str, bytes]:
    """What rows name."""
    made = pictures()
    return {"a.png": made["png"], "b/c.png": made["png-alpha"], "a.wav": sound("WAV", "PCM_16"), "a.jpg": made["jpg"]}


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    """Rows as a parquet file."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, **options)
    return file.getvalue()


def _manifests() -> list[Seed]:
    csv = b'image,caption,caption_2,year,id,split\na.png,one,two,2020,x,test\nb/c.png,"a, b",,1.5,y,val\n'
    flat: list[dict[str, Any]] = [
        {"image": "a.png", "captions": ["one"], "year": 1},
        {"image": "b/c.png", "captions": [], "year": None},
    ]
    nested = [{"text": f"words {n}", "metadata": {"n": n}} for n in range(50)]
    tables = {
        "m.jsonl": (_lines(_ROWS), "jsonl"),
        "m.csv": (csv, "csv"),
        "m.parquet": (parquet(flat), ""),
        "m2.parquet": (parquet(flat, compression="zstd", use_dictionary=False, data_page_version="2.0"), ""),
        "m3.parquet": (parquet(nested, compression="gzip"), ""),
    }
    found = []
    for name, (content, format) in tables.items():
        files = {**media(), name: content}
        found += [
            Seed(f"manifest-{name}", "manifest", name, files, format, 3.0),
            Seed(f"indexed-{name}", "run", name, files, format, 0.6),
        ]
    return found


def _queries() -> list[Seed]:
    csv = b"text,k,where,modality\na red door,3,,image\nwords,2,size_bytes > 3,\n"
    tables = {
        "q.jsonl": (_lines(_QUERIES), "jsonl"),
        "q.csv": (csv, "csv"),
        "q.parquet": (parquet([{"text": "a", "k": 3}, {"text": "b", "k": 1}]), ""),
    }
    return [
        Seed(f"queries-{name}", "queries", name, {**media(), name: content}, format, 2.0)
        for name, (content, format) in tables.items()
    ]


def _layouts() -> list[Seed]:
    karpathy = {
        "dataset": "coco",
        "images": [
            {"filepath": "b", "filename": "c.png", "split": "test", "imgid": 1, "sentences": [{"raw": "one"}]},
            {"filename": "a.png", "split": "test", "imgid": 2, "sentences": [{"raw": "two"}, {"raw": "three"}]},
        ],
    }
    coco = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b/c.png"}],
        "annotations": [{"image_id": 1, "caption": "one"}, {"image_id": 2, "caption": "two"}],
    }
    audiocaps = b"audiocap_id,youtube_id,start_time,caption\n1,a,30,one\n2,a,30,two\n3,zz,1.5,three\n"
    clotho = b"file_name,caption_1,caption_2,caption_3,caption_4,caption_5\na.wav,1,2,3,4,5\n"
    lists = {
        "karpathy": ("dataset_coco.json", json.dumps(karpathy).encode(), "json"),
        "coco-captions": ("captions_val2017.json", json.dumps(coco).encode(), "json"),
        "audiocaps": ("test.csv", audiocaps, "csv"),
        "clotho": ("clotho_captions_evaluation.csv", clotho, "csv"),
        "webdataset": ("shard.tar", _tar(), ""),
    }
    found = [
        Seed(f"layout-{layout}", f"dataset:{layout}", name, {**media(), name: content}, format, 1.5)
        for layout, (name, content, format) in lists.items()
    ]
    picture = media()["a.png"]
    classes = {"c/cat/a.png": picture, "c/dog/b.png": picture, "c/classnames.txt": b"cat a cat\ndog a dog\n"}
    return [*found, Seed("layout-classes", "dataset:classes", "c/classnames.txt", classes, "text", 0.5)]


def _tar() -> bytes:
    file = io.BytesIO()
    members = {
        "0001.png": media()["a.png"],
        "0001.txt": b"a caption\nanother\n",
        "0002.wav": media()["a.wav"],
        "0002.json": b'{"captions": ["x", "y"]}',
    }
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _recipes() -> list[Seed]:
    folder = Path(__file__).resolve().parents[2] / "data" / "recipes"
    found = []
    for name, kind in (("starter.toml", "dual"), ("combined.toml", "dual"), ("reranker.toml", "rerank")):
        content = (folder / name).read_bytes()
        found.append(Seed(f"recipe-{name}", f"recipe:{kind}", name, {name: content}, "toml", 1.5))
    return found


def _where() -> list[Seed]:
    return [
        Seed(f"where-{number}", "where", "where.txt", {"where.txt": text.encode()}, "where", 3.0)
        for number, text in enumerate(_CONDITIONS)
    ]
