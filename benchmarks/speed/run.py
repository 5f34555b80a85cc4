"""How fast pictures and texts go in, against the towers alone and against other programs: ``docs/bench/speed.md``.

    python -m benchmarks.speed.run WORK [--part pictures|starter|texts|growth] [--pictures 256] [--rounds 3]

``WORK`` takes about 3 GB: pictures, one model of random weights in the form of each program, and an environment for
each peer (``peers/*.txt``, beside the packages of this one, so that torch, open_clip and ONNX Runtime are the same).
Every program runs in a process of its own, in turn, on few inputs and on many: what an input takes is the difference,
so that starting, importing and reading weights don't count. Processor seconds count only what this work took; wall
seconds say what two cores gave, and are only good on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import provenance  # noqa: E402
from benchmarks.processes import measured  # noqa: E402
from benchmarks.speed.inputs import make_pictures, make_texts, some_of  # noqa: E402
from benchmarks.speed.page import page  # noqa: E402
from indexer.encoders import open_encoder  # noqa: E402
from indexer.encoders.starter import starter_directory  # noqa: E402

OUT = ROOT / "docs" / "bench"
HERE = Path(__file__).parent
TRIMODAL = [sys.executable, "-c", "import sys; from trimodal.cli import app; sys.argv[0] = 'trimodal'; app()"]
#: Inputs of the small run.
FEW = 32
#: Sides of the pictures: of the web, and of a phone.
SIZES = {"640 x 480": (640, 480), "4000 x 3000": (4000, 3000)}
PARTS = ("pictures", "starter", "texts", "growth")
GROWTH = (1_000, 10_000, 100_000)

Run = Callable[[Path, int, Path], list[str]]
"""Input, how many of it, a folder for what is made -> a command."""


def compared(programs: dict[str, Run], few: Path, many: Path, more: int, rounds: int, work: Path) -> dict[str, Any]:
    """Of each program, in turn: milliseconds an input takes, and the most memory of the large run.

    Each first runs once uncounted: its modules are compiled and its files read from the disk then.
    """
    for command in programs.values():
        measured(command(few, FEW, _cleared(work)))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, command in programs.items():
            both = []
            for inputs, count in ((few, FEW), (many, FEW + more)):
                both.append(measured(command(inputs, count, _cleared(work))))
            small, large = both
            found = {
                "cpu_ms": 1e3 * (large.cpu_s - small.cpu_s) / more,
                "wall_ms": 1e3 * (large.wall_s - small.wall_s) / more,
                "start_cpu_s": small.cpu_s,
                "peak_mb": large.peak_mb,
            }
            runs[name].append(found)
            sys.stderr.write(f"{name}: {found}\n")
    return {
        name: {key: round(statistics.median(one[key] for one in each), 2) for key in each[0]}
        for name, each in runs.items()
    }


def _cleared(work: Path) -> Path:
    """A place for what a run makes, where nothing is."""
    shutil.rmtree(work / "output", ignore_errors=True)
    return work / "output"


def environment(name: str, work: Path) -> Path:
    """The Python of a peer's environment, made where it is not there."""
    folder = work / "environments" / name
    python = folder / "bin" / "python"
    if not (folder / "made").is_file():
        venv.create(folder, with_pip=True)
        packages = next((folder / "lib").glob("python*/site-packages"))
        shared = next(path for path in sys.path if path.endswith("site-packages"))
        (packages / "shared.pth").write_text(shared + "\n")
        wanted = HERE / "peers" / f"{name}.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", wanted], check=True)
        (folder / "made").touch()
    return python


def peer(python: Path | str, what: str, model: str) -> Run:
    """A program of ``peer.py``."""
    return lambda inputs, count, output: [
        str(python),
        "-W",
        "ignore",
        str(HERE / "peer.py"),
        what,
        model,
        str(inputs),
        str(output),
        str(count),
    ]


def trimodal(model: str) -> Run:
    """``trimodal index``."""
    return lambda inputs, count, output: [
        *TRIMODAL,
        "index",
        str(inputs),
        "--collection",
        str(output),
        "--model",
        model,
        "--json",
    ]


def pictures(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One open_clip model of random weights in every program, on pictures of two sizes."""
    from benchmarks.speed.layouts import ARCH, make_layouts

    models = work / "models"
    make_layouts(models)
    spec = f"{ARCH}@{models / 'model.pt'}"
    measured([*TRIMODAL, "models", "pull", f"openclip:{spec}"])  # its graphs are made once
    programs = {
        "the tower alone": peer(sys.executable, "openclip_forward", spec),
        "the tower alone, torch in float32": peer(sys.executable, "forward", spec),
        "trimodal index": trimodal(f"openclip:{spec}"),
        "open_clip's loop": peer(sys.executable, "open_clip_loop", spec),
        "sentence-transformers encode": peer(
            environment("sentence_transformers", work), "sentence_transformers", str(models / "transformers")
        ),
        "clip-retrieval inference": peer(
            environment("clip_retrieval", work), "clip_retrieval", f"open_clip:{ARCH}/{models / 'model.pt'}"
        ),
        "rclip": peer(environment("rclip", work), "rclip", str(models / "rclip")),
    }
    found = {}
    for name, size in SIZES.items():
        few, many = _pictures(work, name, size, options.pictures)
        found[name] = compared(programs, few, many, options.pictures, options.rounds, work)
    return found


def starter(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The starter, whole, with its media tokens."""
    programs = {
        "the towers alone": peer(sys.executable, "starter_forward", "starter"),
        "trimodal index": trimodal("starter"),
    }
    found = {}
    for name, size in SIZES.items():
        few, many = _pictures(work, name, size, options.pictures)
        found[name] = compared(programs, few, many, options.pictures, options.rounds, work)
    return found


def texts(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Passages of about sixty words with the starter's language models."""
    from indexer.encoders.specs import read_config
    from indexer.encoders.weights.base_weights import base_directory

    towers = read_config(starter_directory()).text
    sources = ",".join(str(base_directory(tower.source)) for tower in towers)
    few, many = (make_texts(work / "texts", count) for count in (FEW, FEW + options.texts))
    programs = {
        "the towers alone": _of_lines(peer(sys.executable, "texts_forward", "starter")),
        "trimodal index": trimodal("starter"),
        "sentence-transformers encode": _of_lines(
            peer(environment("sentence_transformers", work), "texts_sentence_transformers", sources)
        ),
    }
    return {"passages": compared(programs, few, many, options.texts, options.rounds, work)}


def growth(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """An index run by its size, with an encoder that costs next to nothing: what trimodal itself takes an item."""
    found = {}
    for count in GROWTH:
        folder = make_pictures(work / "small pictures", count, (96, 72))
        inputs = some_of(folder, work / f"small-{count}", count)
        output = _cleared(work)
        one = measured(trimodal("fake")(inputs, count, output))
        found[f"{count:,}"] = {"cpu_ms": round(1e3 * one.cpu_s / count, 3), "peak_mb": round(one.peak_mb)}
        shutil.rmtree(output)
    return found


def _pictures(work: Path, name: str, size: tuple[int, int], more: int) -> tuple[Path, Path]:
    name = name.replace(" ", "")
    folder = make_pictures(work / name, FEW + more, size)  # perhaps of an earlier run, and more
    few, many = (some_of(folder, work / "linked" / f"{name}-{count}", count) for count in (FEW, FEW + more))
    return few, many


def _of_lines(run: Run) -> Run:
    """For programs that read the texts as lines of the file beside their folder."""
    return lambda inputs, count, output: run(inputs.with_suffix(".txt"), count, output)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    file = options.out / "speed.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    facts = provenance.facts(open_encoder("starter"))
    for part in options.part or PARTS:
        measure = {"pictures": pictures, "starter": starter, "texts": texts, "growth": growth}[part]
        rounds = 1 if part == "growth" else options.rounds
        found[part] = {"facts": facts, "rounds": rounds, "found": measure(work, options)}
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (options.out / "speed.md").write_text(page(found), encoding="utf-8")
    sys.stdout.write(page(found))


if __name__ == "__main__":
    main()
