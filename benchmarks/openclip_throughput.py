"""How fast ``trimodal index`` is with an open_clip model, against that model's forward pass and open_clip's plain loop.

    python benchmarks/openclip_throughput.py --pictures 2000 --arch ViT-B-32

In one run, on the same pictures and the same random weights: the tower's forward pass alone on batches that are in
memory already; the loop of open_clip's README (open, transform, stack, encode), in batches; and ``trimodal index`` as
a process of its own, whole, with its start. ``--rounds`` repeats them in turn; the medians are compared. On a machine
that does other things, compare the processors' seconds: they count only what this work took.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from indexer.encoders.devices import choose_device, choose_dtype
from indexer.encoders.openclip.weights import PRECISIONS
from indexer.encoders.weights.torchvision_ops import ensure_torchvision

ensure_torchvision()
import open_clip  # noqa: E402

TRIMODAL = [sys.executable, "-c", "from trimodal.cli import app; app()"]


def make_pictures(folder: Path, count: int, source: Path | None) -> list[Path]:
    """``count`` JPEGs of about 640 x 480: cut from the pictures under ``source``, or smooth noise; no two are equal."""
    rng = np.random.default_rng(0)
    found = sorted(p for p in source.rglob("*") if p.suffix in (".jpg", ".jpeg", ".png")) if source else []
    paths = []
    for number in range(count):
        if found:
            picture = Image.open(found[number % len(found)]).convert("RGB").resize((640, 480))
        else:
            small = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
            picture = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
        picture.putpixel((number % 640, number // 640), (255, 0, 0))
        paths.append(folder / f"{number:05}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


def forward_alone(model: Any, pictures: int, batch: int, device: torch.device, dtype: torch.dtype) -> None:
    size = model.visual.image_size
    pixels = torch.rand((batch, 3, *size), device=device).to(dtype)
    with torch.inference_mode():
        for start in range(0, pictures, batch):
            model.encode_image(pixels[: min(batch, pictures - start)], normalize=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plain_loop(
    model: Any, transform: Any, paths: list[Path], batch: int, device: torch.device, dtype: torch.dtype
) -> None:
    with torch.inference_mode():
        for start in range(0, len(paths), batch):
            stacked = torch.stack([transform(Image.open(path)) for path in paths[start : start + batch]])
            model.encode_image(stacked.to(device, dtype), normalize=True).float().cpu()


def index(paths: Path, spec: str, collection: Path, options: argparse.Namespace) -> None:
    """One run of ``trimodal index``, from the start of its process to the end."""
    done = subprocess.run(
        [
            *TRIMODAL,
            "index",
            str(paths),
            "--collection",
            str(collection),
            "--model",
            spec,
            "--json",
            "--device",
            options.device,
            "--batch-size",
            str(options.batch),
            "--workers",
            str(options.workers),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    if report["added"] != options.pictures:
        raise SystemExit(f"indexed {report['added']} of {options.pictures} pictures: {report['skipped'][:3]}")


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """On the clock, and of the processors (of this process and those it has waited for)."""
    started, busy = time.perf_counter(), processor_s()
    run()
    return time.perf_counter() - started, processor_s() - busy


def processor_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--arch", default="ViT-B-32", help="an architecture of open_clip")
    parser.add_argument("--source", type=Path, help="a folder of pictures to make them from")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()

    device = choose_device(options.device)
    dtype = choose_dtype(device)
    figures: dict[str, list[tuple[float, float]]] = {
        "forward alone": [],
        "open_clip's loop": [],
        "trimodal index": [],
    }
    with tempfile.TemporaryDirectory() as work:
        (folder := Path(work) / "pictures").mkdir()
        checkpoint = Path(work) / "random.pt"
        torch.save(open_clip.create_model(options.arch).state_dict(), checkpoint)
        model, transform = open_clip.create_model_from_pretrained(
            options.arch, pretrained=str(checkpoint), precision=PRECISIONS[dtype], device=device
        )
        model.eval()
        paths = make_pictures(folder, options.pictures, options.source)
        forward_alone(model, options.batch, options.batch, device, dtype)  # warm
        spec = f"openclip:{options.arch}@{checkpoint}"
        for number in range(options.rounds):
            figures["forward alone"].append(
                seconds(lambda: forward_alone(model, options.pictures, options.batch, device, dtype))
            )
            figures["open_clip's loop"].append(
                seconds(lambda: plain_loop(model, transform, paths, options.batch, device, dtype))
            )
            collection = Path(work) / f"collection-{number}"
            figures["trimodal index"].append(seconds(partial(index, folder, spec, collection, options)))
    show(figures, options, device, dtype)


def show(
    figures: dict[str, list[tuple[float, float]]], options: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(
        f"{options.arch}, {options.pictures:,} pictures of 640 x 480, batches of {options.batch}, {options.workers} "
        f"workers, {options.rounds} rounds; {name}, {dtype}, open_clip {open_clip.__version__}, torch "
        f"{torch.__version__}"
    )
    table = Table(box=None, header_style="bold")
    columns = ("what", "seconds", "pictures/s", "of forward", "of loop", "processor s", "of forward", "of loop")
    for column in columns:
        table.add_column(column, justify="left" if column == "what" else "right")
    middle = {what: [statistics.median(kind) for kind in zip(*both, strict=True)] for what, both in figures.items()}
    forward, loop = middle["forward alone"], middle["open_clip's loop"]
    for what, (clock, busy) in middle.items():
        table.add_row(
            what,
            f"{clock:.1f}",
            f"{options.pictures / clock:.1f}",
            f"{forward[0] / clock:.2f}",
            f"{loop[0] / clock:.2f}",
            f"{busy:.1f}",
            f"{forward[1] / busy:.2f}",
            f"{loop[1] / busy:.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
