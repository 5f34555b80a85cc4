"""A stranger's data sets and recipes: names that lead out of their folder, and code behind a path."""

from __future__ import annotations

import io
import json
import tarfile
from functools import partial
from pathlib import Path

from benchmarks.attack import model_dirs
from benchmarks.attack.stranger_models import _auto_map, _ready, payload, zipped_pickle
from benchmarks.attack.strangers import BAIT, Case, Place


def cases() -> list[Case]:
    """Manifests, layouts, drawings and recipes."""
    return [
        Case("manifest: paths out of the folder", _manifest),
        Case("webdataset: names out of the folder", _tar),
        Case("karpathy: names out of the folder", _karpathy),
        Case("a drawing that takes in files and addresses", _drawing),
        Case("a playlist called a sound", _playlist),
        Case("recipe: a text tower with code", partial(_recipe, "directory")),
        Case("recipe: a GGUF beside code", partial(_recipe, "gguf")),
        Case("recipe: a picture trunk whose weights are a pickle", _recipe_trunk),
        Case("recipe: a CLIP model with code", _recipe_clip),
    ]


def _manifest(place: Place) -> list[str]:
    rows = [
        {"image": f"../{BAIT}"},
        {"image": str(place.root / BAIT)},
        {"audio": "link.wav"},
        {"text": "good"},
        {"image": "http://127.0.0.1:9/a.png"},
        {"image": "file:///etc/passwd"},
    ]
    (place.stranger / "link.wav").symlink_to(place.root / BAIT)
    (place.stranger / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["index", str(place.stranger / "m.jsonl"), "-c", "collection", "--model", "fake"]


def _tar(place: Place) -> list[str]:
    """Members that lead out, links, and a device; a picture with a caption so that it is measured."""
    file = place.stranger / "x.tar"
    picture = (place.media / "a.png").read_bytes()
    with tarfile.open(file, "w") as tar:
        names = ("../../canary.png", str(place.canary) + ".png", "..png", "a/../../b.png", "good.png", "good2.png")
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            tar.addfile(member, io.BytesIO(picture))
        for name in ("good.txt", "good2.txt"):
            member = tarfile.TarInfo(name)
            member.size = 9
            tar.addfile(member, io.BytesIO(b"a caption"))
        for kind, target in ((tarfile.SYMTYPE, str(place.root / BAIT)), (tarfile.LNKTYPE, f"../{BAIT}")):
            member = tarfile.TarInfo(f"link{kind!r}.png")
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return ["bench", f"webdataset:{file}", "--model", "fake"]


def _karpathy(place: Place) -> list[str]:
    images = [
        {"filename": name, "split": "test", "sentences": [{"raw": name}]}
        for name in (f"../{BAIT}", str(place.root / BAIT), "a.png")
    ]
    (place.stranger / "a.png").write_bytes((place.media / "a.png").read_bytes())
    (place.stranger / "d.json").write_text(json.dumps({"images": images}))
    return ["bench", f"karpathy:{place.stranger / 'd.json'}", "--model", "fake"]


def _drawing(place: Place) -> list[str]:
    bait = place.root / BAIT
    bodies = {
        "image": f'<image href="{bait}"/>',
        "file": f'<image href="file://{bait}"/>',
        "web": '<image href="http://127.0.0.1:9/a.png"/>',
        "css": f"<style>@import url({bait});</style><rect/>",
        "use": f'<use href="{bait}#a"/>',
        "font": f"<style>@font-face{{src:url({bait})}}</style><text>a</text>",
        "feimage": f'<filter id="f"><feImage href="{bait}"/></filter><rect filter="url(#f)"/>',
    }
    for name, body in bodies.items():
        text = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{body}</svg>'
        (place.stranger / f"{name}.svg").write_text(text)
    entity = f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file://{bait}">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>'
    (place.stranger / "entity.svg").write_text(entity)
    return ["index", str(place.stranger), "media", "-c", "collection", "--model", "fake"]


def _playlist(place: Place) -> list[str]:
    bait = place.root / BAIT
    lists = {
        "a.m4a": f"#EXTM3U\n#EXTINF:9,\n{bait}\n",
        "b.wav": f"ffconcat version 1.0\nfile '{bait}'\n",
        "c.mp3": f"[playlist]\nFile1=http://127.0.0.1:9/a\nFile2={bait}\n",
        "d.aac": f"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n{bait}",
    }
    for name, text in lists.items():
        (place.stranger / name).write_text(text)
    return ["index", str(place.stranger), "media", "-c", "collection", "--model", "fake"]


def _data(place: Place) -> str:
    """A manifest to train on."""
    rows = [{"image": "a.png", "captions": ["a dog"], "split": split} for split in ("train", "val")]
    for number, row in enumerate(rows):
        name = f"t{number}.png"
        (place.stranger / name).write_bytes((place.media / "a.png").read_bytes())
        row["image"] = name
    (place.stranger / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return '[data]\nmanifests = ["data.jsonl"]\n'


def _train(place: Place, text: str) -> list[str]:
    (place.stranger / "recipe.toml").write_text(f'name = "x"\n{text}')
    return ["train", "dual", str(place.stranger / "recipe.toml"), "--out", str(place.root / "out"), "--device", "cpu"]


def _recipe(kind: str, place: Place) -> list[str]:
    source = kind
    if kind == "directory":
        folder = model_dirs.language_model(place.stranger / "lm")
        _auto_map(place, folder)
        source = "lm"
    elif kind == "gguf":
        model_dirs.gguf_file(place.stranger / "evil.gguf")
        _auto_map(place, place.stranger)
        source = "evil.gguf"
    image = '[[image.trunks]]\narch = "test_vit"\nreadout = "cls+mean"\nweights = "t.safetensors"\nsize_px = 160\n'
    _trunk(place.stranger / "t.safetensors", place)
    return _train(place, f'dim = 24\n{_data(place)}{image}[[text.towers]]\nsource = "{source}"\n')


def _trunk(path: Path, place: Place) -> None:
    (place.stranger / "towers").mkdir(exist_ok=True)
    trained = _ready(place.stranger / "towers" / "made", "trained")
    path.write_bytes((trained / "image-test.safetensors").read_bytes())


def _recipe_trunk(place: Place) -> list[str]:
    (place.stranger / "evil.pt").write_bytes(zipped_pickle(place))
    model_dirs.language_model(place.stranger / "lm")
    image = '[[image.trunks]]\narch = "test_vit"\nreadout = "cls+mean"\nweights = "evil.pt"\nsize_px = 160\n'
    return _train(place, f'dim = 24\n{_data(place)}{image}[[text.towers]]\nsource = "lm"\n')


def _recipe_clip(place: Place) -> list[str]:
    folder = _ready(place.stranger / "model", "openclip")
    _auto_map(place, folder)
    path = folder / "open_clip_config.json"
    document = json.loads(path.read_text())
    document["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    path.write_text(json.dumps(document))
    (place.stranger / "evil.py").write_text(payload(place))
    model_dirs.language_model(place.stranger / "lm")
    return _train(place, f'{_data(place)}[image]\nmodel = "openclip:{folder}"\n[[text.towers]]\nsource = "lm"\n')
