"""A small studio to train in: a pool of coloured pictures and pitches, an evaluation manifest, towers and a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from small_model import save_language_model, save_towers

COLOURS = {
    "red": (220, 30, 30), "green": (20, 160, 40), "blue": (30, 40, 220), "yellow": (240, 220, 40),
    "black": (15, 15, 15), "grey": (130, 130, 130), "purple": (130, 30, 150), "orange": (250, 140, 20),
}  # fmt: skip
RECIPE = """
name = "colours"
seed = 7
dim = 24
[data]
manifests = ["pool/manifest.jsonl"]
[[data.exclude_near]]
manifest = "evaluation/manifest.jsonl"
cosine = 0.99999
[[image.trunks]]
arch = "test_vit"
readout = "cls+mean"
weights = "towers/image-test.safetensors"
size_px = 160
[image.head]
whitened = 24
hidden = 32
dropout = 0.1
[[text.towers]]
source = "{lm}"
prompt = "\\"{{text}}\\" is "
max_tokens = 40
[text.head]
whitened = 16
hidden = 32
dropout = 0.1
[audio]
weight = 0.5
[audio.tower]
weights = "towers/audio-test.safetensors"
width = 16
layers = 2
heads = 2
window_s = 2.0
[audio.head]
whitened = 16
hidden = 16
dropout = 0.1
[schedule]
steps = 12
batch = 24
evaluate_every = 4
"""


def build_studio(folder: Path) -> Path:
    """Write everything under ``folder``; ``recipe.toml`` there trains in about a second."""
    folder.mkdir(parents=True, exist_ok=True)
    save_towers(folder / "towers")
    lm = save_language_model(folder / "lm")
    random = np.random.default_rng(0)
    rows = []
    for name in ("pool", "evaluation"):
        (folder / name).mkdir()
    for number, (colour, rgb) in enumerate(COLOURS.items()):
        for copy in range(5):
            file = f"{colour}{copy}.png"
            noise = random.integers(-12, 12, (48, 64, 3))
            Image.fromarray(np.clip(np.array(rgb) + noise, 0, 255).astype(np.uint8)).save(folder / "pool" / file)
            split = "val" if number >= 6 else "train"
            captions = [f"a {colour} square", colour]
            rows.append({"image": file, "captions": captions, "split": split, "metadata": {"concept": colour}})
        tone = np.sin(2 * np.pi * (200 + 150 * number) * np.arange(8_000) / 16_000)
        soundfile.write(folder / "pool" / f"{colour}.wav", tone * 0.5, 16_000)
        row = {"audio": f"{colour}.wav", "captions": [f"tone {number}"], "split": split}
        rows.append({**row, "metadata": {"concept": f"tone {number}"}})
    rows.append({"image": "gone.png", "captions": ["gone"], "split": "train"})
    (folder / "pool" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    near = (folder / "pool" / "red0.png").read_bytes()
    (folder / "evaluation" / "near.png").write_bytes(near)
    (folder / "evaluation" / "manifest.jsonl").write_text('{"image": "near.png", "captions": ["red"]}\n')
    (folder / "recipe.toml").write_text(RECIPE.format(lm=lm))
    return folder


def changed(studio: Path, name: str, **lines: str) -> Path:
    """A recipe like the studio's, with lines put at the top of tables: ``changed(s, "x", schedule="steps = 3")``.

    A key that the table has already is replaced; ``__end__`` adds text at the end of the file.
    """
    text = (studio / "recipe.toml").read_text()
    for table, added in lines.items():
        if table == "__end__":
            text += added
            continue
        header = f"[{table.replace('__', '.')}]\n"
        header = f"[{header}".replace("]\n", "]]\n") if f"[{header.strip()}]" in text else header
        before, _, after = text.partition(header)
        own, bracket, rest = after.partition("\n[")
        keys = {line.split("=")[0].strip() for line in added.splitlines()}
        kept = [line for line in own.splitlines() if line.split("=")[0].strip() not in keys]
        text = before + header + "\n".join([added, *kept]) + bracket + rest
    path = studio / f"{name}.toml"
    path.write_text(text)
    return path
