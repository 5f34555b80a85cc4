"""AudioCaps and Clotho: a CSV of captions and a folder of sounds.

AudioCaps has a row a caption (``audiocap_id,youtube_id,start_time,caption``), five of them a test clip, and its sounds
are named in as many ways as there are scripts that fetch them; Clotho has a row a clip (``file_name,caption_1, ...,
caption_5``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from indexer.errors import UsageError
from indexer.files import display_path
from indexer.items import Modality
from indexer.media.formats import AUDIO_SUFFIXES
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.datasets.rows import Rows, by_stem, find_below, media_folders, one_split, read_csv

AUDIOCAPS_SOURCE = "https://github.com/cdjkim/audiocaps (dataset/test.csv; the clips are YouTube's)"
CLOTHO_SOURCE = "https://zenodo.org/records/4783391"

_CLIP_S = 10
_CLOTHO_USUAL = ("evaluation", "validation", "development", "clotho_audio_evaluation")


def load_audiocaps(path: Path, media: Path | None = None, split: str | None = None) -> Benchmark:
    """A row a clip with all its captions, in the order of the CSV. A folder: its ``<split>.csv``, default test."""
    if path.is_dir():
        media = media or path
        path = find_below([path, path / "dataset"], f"{split or 'test'}.csv") or path / f"{split or 'test'}.csv"
    else:
        one_split(path, split)
    listed, sha256 = read_csv(path, ("audiocap_id", "youtube_id", "start_time", "caption"), AUDIOCAPS_SOURCE)
    folder = media_folders(media, path.absolute().parent, ())[0]
    clips: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in listed:
        clips.setdefault((row["youtube_id"], row["start_time"]), []).append(row)
    files = by_stem(folder, AUDIO_SUFFIXES)
    rows = Rows(path.absolute(), Modality.AUDIO, AUDIOCAPS_SOURCE)
    for (youtube_id, start), captioned in clips.items():
        names = _audiocaps_names(youtube_id, start, [row["audiocap_id"] for row in captioned])
        file = next((files[name] for name in names if name in files), None)
        rows.add(captioned[0]["audiocap_id"], f"{youtube_id}.wav", file, [row["caption"] for row in captioned])
    return rows.benchmark("audiocaps", sha256, split)


def load_clotho(path: Path, media: Path | None = None, split: str | None = None) -> Benchmark:
    """A row a clip with its five captions. A folder: its ``clotho_captions_<split>.csv``, default evaluation."""
    if path.is_dir():
        media = media or path
        path = path / f"clotho_captions_{split or 'evaluation'}.csv"
    else:
        one_split(path, split)
    listed, sha256 = read_csv(path, ("file_name", "caption_1"), CLOTHO_SOURCE)
    folders = media_folders(media, path.absolute().parent, _CLOTHO_USUAL)
    own = path.stem.removeprefix("clotho_captions_")
    folders = [*(folder / own for folder in folders[:1]), *folders]
    rows = Rows(path.absolute(), Modality.AUDIO, CLOTHO_SOURCE)
    for number, row in enumerate(listed, start=1):
        name = row["file_name"]
        captions = [cell for column, cell in row.items() if column.startswith("caption_")]
        rows.add(str(number), name, find_below(folders, name), captions)
    return rows.benchmark("clotho", sha256, split)


def _audiocaps_names(youtube_id: str, start: str, audiocap_ids: list[str]) -> Iterator[str]:
    """Names, without suffix, under which scripts store a clip; the most specific first."""
    try:
        begin_s = float(start)
    except ValueError as error:
        raise UsageError(
            f"{display_path(youtube_id)}: its start_time is {display_path(start)!r}; it is a number of seconds"
        ) from error
    end_s = begin_s + _CLIP_S
    for prefix in ("", "Y"):
        stem = f"{prefix}{youtube_id}"
        yield f"{stem}_{begin_s * 1000:.0f}_{end_s * 1000:.0f}"  # AudioSet's own: milliseconds
        yield f"{stem}_{begin_s:.0f}_{end_s:.0f}"
        yield f"{stem}_{begin_s:.3f}_{end_s:.3f}"
        yield f"{stem}_{begin_s:.1f}_{end_s:.1f}"
        yield f"{stem}_{begin_s:.0f}"
        yield stem
    yield from audiocap_ids
