"""Write the demo pictures as Karpathy's COCO lies on a disk, to try the loader and the report without COCO.

    python benchmarks/datasets/demo_coco.py [--out DIR]
    trimodal bench coco:DIR --report page

Writes `dataset_coco.json` and `val2014/` (default: `datasets/demo-coco` in the per-user cache). Five sentences a
picture, as COCO has: its two captions and three other wordings of them. Every fifth picture is `val`, the others are
`test`. Its pictures are easy to distinguish: the figures are not those of COCO.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from manifests import out_folder

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
ARTICLE = re.compile(r"^(?:an?|the) ", re.I)


def sentences(captions: list[str]) -> list[str]:
    """Five sentences for a picture.

    >>> sentences(["a red door", "an old door"])[2:]
    ['red door', 'a picture of an old door', 'this is a red door']
    """
    first, last = captions[0], captions[-1]
    return [first, last, ARTICLE.sub("", first), f"a picture of {last}", f"this is {first}"]


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "demo-coco", arguments)
    (out / "val2014").mkdir(exist_ok=True)
    rows = [json.loads(line) for line in (DEMO / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    images: list[dict[str, Any]] = []
    for number, row in enumerate(row for row in rows if "image" in row):
        picture = DEMO / row["image"]
        name = f"COCO_val2014_{number:012}{picture.suffix}"
        shutil.copyfile(picture, out / "val2014" / name)
        captions = [
            {"tokens": re.findall(r"\w+", text.lower()), "raw": text, "imgid": number, "sentid": 5 * number + place}
            for place, text in enumerate(sentences(row["captions"]))
        ]
        images.append(
            {
                "filepath": "val2014",
                "filename": name,
                "cocoid": number,
                "imgid": number,
                "sentids": [one["sentid"] for one in captions],
                "split": "test" if number % 5 else "val",
                "sentences": captions,
            }
        )
    whole = {"images": images, "dataset": "coco"}
    (out / "dataset_coco.json").write_text(json.dumps(whole, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{out}: {len(images)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
