"""The data recipes: packages are checked and safely unpacked, captions and splits keep their rules, the demo is whole.

No network: archives are made in `tmp_path`; what is checked of real data is committed in `data/demo`.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from paths import DEMO
from PIL import Image, ImageDraw

pytest.importorskip("resvg_py", reason="the recipes render SVG: pip install 'trimodal[svg]'")

import demo
import emojis
import furniture
import openclipart
import packages
import pool
import render
import sounds
import splits
import tuxpaint
from captions import with_article
from samples import Blob, Sample

MANIFEST = [json.loads(line) for line in (DEMO / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


# packages


def tgz(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("member", ["../evil.txt", "package/../../evil.txt", "/evil.txt", "a\\..\\..\\evil.txt"])
def test_a_member_that_climbs_out_of_its_folder_is_refused(tmp_path: Path, member: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(packages.PackageError, match="outside its folder"):
        packages.unpack(tgz(tmp_path / "bad.tgz", {member: b"x"}), folder)
    with zipfile.ZipFile(tmp_path / "bad.whl", "w") as wheel:
        wheel.writestr(member, b"x")
    with pytest.raises(packages.PackageError, match="outside its folder"):
        packages.unpack(tmp_path / "bad.whl", folder)
    assert list(folder.rglob("*")) == []
    assert not (tmp_path / "evil.txt").exists()


def test_links_in_an_archive_are_not_written(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tgz", "w:gz") as archive:
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    packages.unpack(tmp_path / "links.tgz", tmp_path / "out")
    assert not (tmp_path / "out/package/link").is_symlink()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_deb_is_unpacked(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    )
    (tree / "usr/share/tiny").mkdir(parents=True)
    (tree / "usr/share/tiny/word.txt").write_text("apple")
    subprocess.run(["dpkg-deb", "-b", str(tree), str(tmp_path / "tiny_1_all.deb")], check=True, capture_output=True)
    (tmp_path / "out").mkdir()
    packages.unpack(tmp_path / "tiny_1_all.deb", tmp_path / "out")
    assert (tmp_path / "out/usr/share/tiny/word.txt").read_text() == "apple"


def table(path: Path, sha256: str) -> Path:
    path.write_text(f'["@set/icons"]\nclient = "npm"\nversion = "1.0.0"\nsha256 = "{sha256}"\n')
    return path


def test_a_cached_archive_is_checked_unpacked_once_and_found_again(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    archive = tgz(tmp_path / "packages/set-icons-1.0.0.tgz", {"package/a.txt": b"apple"})
    rows = table(tmp_path / "table.toml", hashlib.sha256(archive.read_bytes()).hexdigest())
    folder = packages.fetch("@set/icons", root=tmp_path, table_path=rows)
    assert (folder / "package/a.txt").read_bytes() == b"apple"
    archive.unlink()  # what is unpacked is not fetched again
    assert packages.fetch("@set/icons", root=tmp_path, table_path=rows) == folder


def test_another_archive_under_the_pinned_name_is_refused_with_both_sums(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    archive = tgz(tmp_path / "packages/set-icons-1.0.0.tgz", {"package/a.txt": b"worm"})
    rows = table(tmp_path / "table.toml", "0" * 64)
    with pytest.raises(packages.PackageError) as error:
        packages.fetch("@set/icons", root=tmp_path, table_path=rows)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert found in str(error.value) and "0" * 64 in str(error.value) and "delete the file" in str(error.value)
    assert not (tmp_path / "packages/unpacked").exists()


def test_a_missing_client_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(packages.PackageError, match=r"@set/icons: npm is not on this machine; install Node\.js"):
        packages.fetch("@set/icons", root=tmp_path, table_path=table(tmp_path / "table.toml", "0" * 64))


def test_a_package_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(packages.PackageError, match=r"left-pad: not in packages\.toml"):
        packages.fetch("left-pad", root=tmp_path)


def test_every_pinned_package_has_a_known_client_and_a_whole_sum() -> None:
    for package in packages.load_table().values():
        assert package.client in packages.CLIENTS
        assert len(bytes.fromhex(package.sha256)) == 32


# captions

OPEN_CLIP_ART = [
    # path, title that few files share, artist, best caption
    ("food/fruit/cherries", "pear", "Nicu Buculei", "cherries"),
    ("office/scissors", "book", "Nicu Buculei", "scissors"),
    ("people/clothing/hats/propeller", "piggybank", "Nicu Buculei", "propeller"),
    ("tools/weapons/lightsabers", "Clipart by Nicu Buculei - piggybank", "Nicu Buculei", "lightsabers"),
    ("food/desserts/cone_alt1", "Ice Cream Cone (1 scoop)", "Gerald G.", "ice cream cone, scoop"),
    ("food/fries_bw", "Fries (B and W)", "Gerald G.", "fries, black and white"),
    ("office/wooden_table_benji_park_01", "Wooden Table", "Benji Park", "wooden table"),
    ("animals/bugs/ragno_figo_architetto_fr_01", "Ragno figo", "Architetto Francesco Rollandin", "spider"),
    ("unsorted/Tacchino_di_Natale", "", "Architetto Francesco Rollandin", "roast turkey"),
    ("recreation/party/balloon-red-aj", "", "AJ", "red balloon"),
    ("animals/mammals/contour_camel", "", "Nicu Buculei", "camel silhouette"),
    ("signs_and_symbols/map_symbols/aiga_waiting_room1", "", "Jean-Victor Balin", "waiting room symbol"),
    ("signs_and_symbols/flags/europe/suisse", "", "", "flag of Switzerland"),
    ("recreation/games/cards/simple/simple_c_k", "", "Nicu Buculei", "king of clubs playing card"),
    ("food/meats_and_eggs/farmer_onelette", "", "Gerald G.", "submarine sandwich"),
]


@pytest.mark.parametrize(("where", "title", "artist", "best"), OPEN_CLIP_ART)
def test_an_open_clip_art_caption_says_what_the_file_name_says(where: str, title: str, artist: str, best: str) -> None:
    assert openclipart.captions_of(where, title, artist)[0] == best


@pytest.mark.parametrize(
    ("where", "artist"),
    [
        ("people/architetto_francesco_ro_01", "Architetto Francesco Rollandin"),
        ("unsorted/ms_01", "Tux"),
        ("unsorted/ec2.py_fearzip_01", "FearZip"),
    ],
)
def test_a_drawing_without_a_telling_name_has_no_caption(where: str, artist: str) -> None:
    assert openclipart.captions_of(where, "", artist) == []


@pytest.mark.parametrize(
    "where", ["shapes/stars/star_63pt11step", "computer/icons/flat-theme/action/misc", "special/gradients/x"]
)
def test_shapes_themes_and_gradients_are_skipped(where: str) -> None:
    assert openclipart.SKIPPED.match(where)


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("flag: Chad", "flag of Chad"),
        ("woman: red hair", "woman with red hair"),
        ("man: bald", "bald man"),
        ("person walking: facing right", "person walking facing right"),
        ("red apple", "red apple"),
    ],
)
def test_an_emoji_label_becomes_a_phrase(label: str, phrase: str) -> None:
    assert emojis.label_phrase(label) == phrase


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("Closed HH", "closed hi-hat"),
        ("Snare (Pearl Free Floating Maple 14x3.5)", "snare drum"),  # "free" once made this an open hi-hat
        ("d3 - snare 1", "snare drum"),
        ("Kick Stomp", "bass drum"),  # and the "tom" in "stomp" a tom
        ("VariBreaks Tom Hi", "high tom drum"),
        ("Sample: beats_01-39.flac", ""),
    ],
)
def test_a_drum_name_is_said_in_plain_words(name: str, phrase: str) -> None:
    assert sounds.drum_phrase(name) == phrase


def test_furniture_and_program_names_become_phrases() -> None:
    assert furniture.phrase_of("Bed 140x190") == "bed"
    assert furniture.phrase_of("TV") == "television"
    assert sounds.program_phrase("alto-sax") == "alto saxophone"
    assert sounds.program_phrase("pad-3-polysynth") == "synthesizer pad"


@pytest.mark.parametrize(
    ("phrase", "with_one"),
    [
        ("apple", "an apple"),
        ("uniform", "a uniform"),
        ("hourglass", "an hourglass"),
        ("scissors", "scissors"),
        ("onion rings, black and white", "onion rings, black and white"),
        ("the moon", "the moon"),
        ("bowl of cherries", "a bowl of cherries"),
    ],
)
def test_an_article_is_put_where_english_has_one(phrase: str, with_one: str) -> None:
    assert with_article(phrase) == with_one


# splits


@pytest.mark.parametrize(
    ("phrase", "noun"),
    [
        ("a red apple", "apple"),
        ("Apples", "apple"),
        ("lemon, half slice", "lemon"),
        ("cat with tears of joy", "cat"),
        ("horse face", "horse"),
        ("flag of Chad", "chad"),
        ("owl on branch", "owl"),
        ("muffin, black and white", "muffin"),
        ("tomatoes", "tomato"),
        ("shoes", "shoe"),
        ("rhinoceros", "rhinoceros"),
        ("person walking facing right", "walking"),
        ("woman teacher", "teacher"),
        ("automobile", "car"),
        ("12", "12"),
    ],
)
def test_the_head_noun_is_what_a_phrase_is_of(phrase: str, noun: str) -> None:
    assert splits.head(phrase) == noun


def test_sides_are_the_same_on_every_machine() -> None:
    assert [splits.split_of(word) for word in ("apple", "drum", "frog", "car", "airplane", "bass", "dog")] == [
        "train",
        "train",
        "demo",
        "val",
        "val",
        "val",
        "train",
    ]


def test_phrases_of_one_noun_fall_on_one_side() -> None:
    for noun in ("apple", "frog", "car", "teapot", "airplane", "violin"):
        phrases = [noun, f"a {noun}", f"red {noun}", f"{noun}s", f"{noun} with a leaf", f"{noun}, black and white"]
        assert len({splits.split_of(phrase) for phrase in phrases}) == 1


def test_val_has_about_its_share_of_nouns() -> None:
    words = [f"noun{i:c}{i % 97}x" for i in range(97, 123)] + [
        f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(676)
    ]
    share = sum(splits.split_of(word) == "val" for word in words) / len(words)
    assert 0.05 < share < 0.11


def sample(name: str, concept: str, *, split: str | None = None, captions: tuple[str, ...] = ("x",)) -> Sample:
    return Sample("src", name, concept, captions, "MIT", image=Blob(data=b""), split=split)


def test_equal_files_become_one_row_and_lend_captions_only_on_their_side() -> None:
    samples = [
        sample("1", "apple", captions=("apple",)),
        sample("2", "red apple", captions=("Apple", "red apple")),
        sample("3", "frog", captions=("frog",)),
        sample("4", "pear", captions=("pear",)),
    ]
    written = [
        ("1.jpg", None, "same", ""),
        ("2.jpg", None, "same", ""),
        ("3.jpg", None, "same", ""),
        (None, None, None, "bad"),
    ]
    rows = pool.rows_of(samples, written)
    assert [row["captions"] for row in rows] == [["apple", "red apple"]]
    assert rows[0]["split"] == "train" and rows[0]["metadata"]["concept"] == "apple"


def draw(path: Path, shift: int = 0, *, shape: str = "ellipse") -> Image.Image:
    image = Image.new("RGB", (320, 320), "white")
    pen = ImageDraw.Draw(image)
    getattr(pen, shape)((40 + shift, 60, 240 + shift, 260), fill="teal", outline="black", width=12)
    pen.ellipse((80 + shift, 100, 150 + shift, 220), fill="yellow")
    render.save_jpeg(image, path)
    return image


def test_near_copies_across_the_split_are_dropped_from_the_training_side(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    draw(tmp_path / "b.jpg", shift=15)  # the same drawing with another margin
    draw(tmp_path / "c.jpg", shape="rectangle")
    rows = [
        {"id": name, "image": f"{name}.jpg", "split": split, "metadata": {"source": "openclipart"}}
        for name, split in [("a", "train"), ("b", "demo"), ("c", "train")]
    ]
    kept, dropped = pool.drop_across_splits(rows, tmp_path)
    assert [row["id"] for row in kept] == ["b", "c"] and dropped == 1


def test_no_concept_of_the_built_pool_is_on_two_sides() -> None:
    manifest = packages.cache_root() / "datasets/pool/manifest.jsonl"
    if not manifest.is_file():
        pytest.skip("the pool is not built here: python benchmarks/datasets/pool.py")
    sides: dict[str, set[str]] = {}
    with manifest.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["metadata"]["source"] != "sonic-pi":  # kept for the demo as recordings, whatever they are of
                sides.setdefault(row["metadata"]["concept"], set()).add(row["split"])
    assert [noun for noun, found in sides.items() if len(found) > 1] == []


# pictures and sounds


def test_transparent_pictures_are_put_on_white_and_shrunk(tmp_path: Path) -> None:
    image = Image.new("RGBA", (800, 400), (255, 0, 0, 0))  # red, but fully transparent
    image.paste((0, 0, 255, 255), (0, 0, 400, 400))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    shown = render.open_picture(buffer.getvalue(), side=200)
    assert shown.size == (200, 100) and shown.mode == "RGB"
    assert shown.getpixel((180, 50)) == (255, 255, 255)
    assert shown.getpixel((20, 50)) == (0, 0, 255)


def test_an_svg_sized_in_points_is_drawn_whole() -> None:
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="300pt" height="150pt"><circle cx="350" cy="100" r="40"/></svg>'
    )
    shown = render.open_picture(svg, side=200)
    assert shown.size == (200, 100)
    assert shown.getpixel((175, 50)) == (0, 0, 0)  # 350 of 400 px, since 300 pt are 400 px


def test_bytes_that_are_no_picture_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="not a readable picture"):
        render.open_picture(b"hello", side=64)


def test_a_sound_becomes_mono_flac_of_limited_length_and_silence_is_refused(tmp_path: Path) -> None:
    tone = np.sin(np.arange(16_000 * 20) / 10)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([tone, tone], axis=1) * 0.5, 16_000, format="WAV")
    pool.write_sound(buffer.getvalue(), tmp_path / "a.flac")
    written, rate_hz = soundfile.read(tmp_path / "a.flac")
    assert written.shape == (16_000 * 15,) and rate_hz == 16_000
    silent = io.BytesIO()
    soundfile.write(silent, np.zeros(1000), 16_000, format="WAV")
    with pytest.raises(ValueError, match="silent"):
        pool.write_sound(silent.getvalue(), tmp_path / "b.flac")


def test_two_ogg_files_of_one_sound_are_the_same_bytes() -> None:
    tone = np.sin(np.arange(32_000) / 15).astype(np.float32) * 0.5
    files = []
    for _ in range(2):
        buffer = io.BytesIO()
        soundfile.write(buffer, tone, 32_000, format="OGG", subtype="VORBIS")
        files.append(demo.with_serial(buffer.getvalue(), 1))
    assert files[0] == files[1]
    assert abs(soundfile.read(io.BytesIO(files[0]))[0] - tone).max() < 0.1  # checksums are right: it decodes


# Tux Paint


def test_a_stamp_is_its_svg_its_sentence_and_its_effect(tmp_path: Path) -> None:
    root, out = tmp_path / "stamps", tmp_path / "out"
    (root / "animals").mkdir(parents=True)
    (root / "symbols").mkdir()
    picture = draw(tmp_path / "x.jpg")
    for name in ("animals/frog", "animals/frog_mirror", "symbols/a", "animals/mute"):
        picture.save(root / f"{name}.png")
    (root / "animals/frog.txt").write_text("A frog.\nde.utf8=Ein Frosch.\npt_BR.utf8=\n", encoding="utf-8")
    (root / "symbols/a.txt").write_text("The letter A.\n", encoding="utf-8")
    (root / "animals/frog_desc.ogg").write_bytes(b"spoken")
    (root / "animals/frog.ogg").write_bytes(b"croak")
    found = dict(tuxpaint.rows(root, out))
    assert found["animals/mute"] == "no sentence"
    assert set(found) == {"animals/frog", "animals/mute"}
    row = found["animals/frog"]
    assert isinstance(row, dict)
    assert row["captions"] == ["A frog."] and row["metadata"]["caption_de"] == "Ein Frosch."
    assert "caption_pt_BR" not in row["metadata"] and row["metadata"]["category"] == "animals"
    assert (out / row["audio"]).read_bytes() == b"croak"
    with Image.open(out / row["image"]) as shown:
        assert shown.size == (320, 320)


# the committed demo


def test_every_row_of_the_demo_opens() -> None:
    for row in MANIFEST:
        if "image" in row:
            with Image.open(DEMO / row["image"]) as image:
                image.load()
                assert max(image.size) <= 256
        elif "audio" in row:
            wave, rate_hz = soundfile.read(DEMO / row["audio"])
            assert wave.ndim == 1 and 0 < len(wave) / rate_hz <= 6.01
        else:
            file = DEMO / row["metadata"]["file"]
            assert " ".join(file.read_text(encoding="utf-8").split()) == row["text"]
        assert row["captions"] and all(caption.strip() for caption in row["captions"])


def test_the_demo_is_large_enough_and_small_enough() -> None:
    counts = Counter(kind for row in MANIFEST for kind in ("image", "audio", "text") if kind in row)
    assert counts["image"] >= 200 and counts["audio"] >= 40 and counts["text"] >= 60
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= demo.LIMIT_BYTES
    assert len({row["id"] for row in MANIFEST}) == len(MANIFEST)
    assert {Path(row["image"]).suffix for row in MANIFEST if "image" in row} == {".png", ".jpg", ".webp"}


def test_every_file_of_the_demo_is_in_the_manifest_and_in_the_licences() -> None:
    named = {row.get("image") or row.get("audio") or row["metadata"]["file"] for row in MANIFEST}
    there = {path.relative_to(DEMO).as_posix() for folder in demo.FOLDERS for path in (DEMO / folder).iterdir()}
    assert there == named
    licences = (DEMO / "LICENSES.md").read_text(encoding="utf-8")
    assert [name for name in sorted(named) if f"| {name} |" not in licences] == []


def test_only_sources_that_may_be_shipped_are_in_the_demo() -> None:
    allowed = {
        "openclipart": "public domain",
        "sweethome3d": "CC0 1.0",
        "emoji-fluent-3d": "MIT",
        "sonic-pi": "CC0 1.0",
        "trimodal": "Apache-2.0",
    }
    for row in MANIFEST:
        assert row["metadata"]["license"] == allowed[row["metadata"]["source"]], row["id"]
        if row["metadata"]["source"] == "sweethome3d":
            assert row["metadata"]["original"].startswith("BlendSwap-CC-0")


def test_no_concept_of_the_demo_pictures_is_trained_on() -> None:
    for row in MANIFEST:
        if "image" in row:
            assert splits.split_of(row["metadata"]["concept"]) == "demo", row["id"]
