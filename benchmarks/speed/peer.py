"""One program at one piece of work, in a process of its own: ``python peer.py WHAT MODEL INPUT OUTPUT COUNT``.

``INPUT`` is a folder of pictures, or a text file of passages, a line each. Run by :mod:`benchmarks.speed.run` with the
Python of the program's own environment; on that side nothing of trimodal is imported but the mend of torchvision.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

BATCH = 32


def forward(model: str, inputs: Path, output: Path, count: int) -> None:
    """open_clip's tower alone, on batches that are in memory."""
    import torch

    tower, _ = _open_clip(model)
    pixels = torch.rand((BATCH, 3, *tower.visual.image_size))
    with torch.inference_mode():
        for start in range(0, count, BATCH):
            tower.encode_image(pixels[: min(BATCH, count - start)], normalize=True)


def openclip_forward(model: str, inputs: Path, output: Path, count: int) -> None:
    """The same tower as trimodal runs it, on prepared pictures that are in memory."""
    import numpy as np

    from indexer.encoders import open_encoder

    encoder = open_encoder(f"openclip:{model}")
    side = encoder.prepare_image(_square()).shape
    pictures = list(np.random.default_rng(0).integers(0, 255, (BATCH, *side), dtype=np.uint8))
    for start in range(0, count, BATCH):
        encoder.encode_images(pictures[: min(BATCH, count - start)])


def open_clip_loop(model: str, inputs: Path, output: Path, count: int) -> None:
    """The loop of open_clip's README, in batches."""
    import torch
    from PIL import Image

    tower, transform = _open_clip(model)
    paths = sorted(inputs.iterdir())[:count]
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            stacked = torch.stack([transform(Image.open(path)) for path in paths[start : start + BATCH]])
            tower.encode_image(stacked, normalize=True)


def sentence_transformers(model: str, inputs: Path, output: Path, count: int) -> None:
    """``encode`` of opened pictures, as its documentation shows."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    opened = SentenceTransformer(model)
    paths = sorted(inputs.iterdir())[:count]
    for start in range(0, len(paths), 8 * BATCH):  # all at once would hold every picture
        opened.encode([Image.open(path) for path in paths[start : start + 8 * BATCH]], batch_size=BATCH)


def clip_retrieval(model: str, inputs: Path, output: Path, count: int) -> None:
    """``clip-retrieval inference`` on a folder."""
    from clip_retrieval.clip_inference.main import main

    main(
        input_dataset=str(inputs),
        output_folder=str(output),
        input_format="files",
        enable_text=False,
        batch_size=BATCH,
        num_prepro_workers=2,
        clip_model=model,
        use_jit=False,
    )


def rclip(model: str, inputs: Path, output: Path, count: int) -> None:
    """``rclip`` in a folder, which indexes and then searches."""
    os.environ["RCLIP_DATADIR"] = model
    Path(model, "db.sqlite3").unlink(missing_ok=True)  # what it indexed before it would not read again
    os.chdir(inputs)
    sys.argv = ["rclip", "a red tool", "--filepath-only", "--top", "1"]
    runpy.run_module("rclip", run_name="__main__")


def starter_forward(model: str, inputs: Path, output: Path, count: int) -> None:
    """The towers of a model of trimodal alone, with the media tokens, on batches that are in memory."""
    import numpy as np

    from indexer.encoders import open_encoder
    from indexer.encoders.tokens.format import token_encoder

    encoder = open_encoder(model)
    maker = token_encoder(encoder)
    side = getattr(encoder, "picture_px", None) or 224
    pictures = list(np.random.default_rng(0).integers(0, 255, (BATCH, side, side, 3), dtype=np.uint8))
    for start in range(0, count, BATCH):
        some = pictures[: min(BATCH, count - start)]
        if maker is None:
            encoder.encode_images(some)
        else:
            maker.encode_images_with_tokens(some)


def texts_forward(model: str, inputs: Path, output: Path, count: int) -> None:
    """The text towers of a model of trimodal alone, passages of near lengths together."""
    from indexer.encoders import open_encoder

    encoder = open_encoder(model)
    lines = sorted(_lines(inputs, count), key=len)
    for start in range(0, len(lines), 4 * BATCH):
        encoder.encode_passages(lines[start : start + 4 * BATCH])


def texts_sentence_transformers(model: str, inputs: Path, output: Path, count: int) -> None:
    """``encode`` of all passages with each of the language models of ``model``, folders with commas between."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    for folder in model.split(","):
        # of its own it takes the files' float16, which a processor without it multiplies many times slower
        tower = Transformer(folder, max_seq_length=256, model_kwargs={"dtype": torch.float32})
        if tower.tokenizer.pad_token is None:
            tower.tokenizer.pad_token = tower.tokenizer.eos_token
        pooling = Pooling(tower.get_embedding_dimension(), pooling_mode="mean")
        SentenceTransformer(modules=[tower, pooling]).encode(_lines(inputs, count), batch_size=BATCH)


def _square() -> Any:
    from PIL import Image

    return Image.new("RGB", (300, 300))


def _lines(path: Path, count: int) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[:count]


def _open_clip(model: str) -> Any:
    import open_clip

    arch, _, weights = model.partition("@")
    tower, transform = open_clip.create_model_from_pretrained(arch, pretrained=weights)
    return tower.eval(), transform


PROGRAMS = {
    one.__name__: one
    for one in (
        forward,
        openclip_forward,
        open_clip_loop,
        sentence_transformers,
        clip_retrieval,
        rclip,
        starter_forward,
        texts_forward,
        texts_sentence_transformers,
    )
}

if __name__ == "__main__":
    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    if sys.argv[1] != "rclip":  # which has no torch
        ensure_torchvision()
    PROGRAMS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
