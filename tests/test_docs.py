"""README.md and docs/: --help blocks are what the program prints, links lead somewhere, named files exist."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from small_media import picture

from indexer.encoders.weights.base_weights import base_directory, is_pulled

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "data/models/starter/README.md"])
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
#: A file or folder of this repository in running text or code: "docs/cli.md", "benchmarks/index/run.py".
NAMED = re.compile(r"(?<![\w/.…~-])(?:benchmarks|data|docs|indexer|retrieval|tests)/[\w./*-]*[\w*]")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page: "## The cache" -> "the-cache"."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_help_texts_are_what_the_program_prints() -> None:
    command = [sys.executable, "-m", "cogapp", "--check", "-I", ROOT / "docs", ROOT / "docs" / "cli.md"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}; run make docs"


def test_cli_md_has_a_chapter_for_the_commands_that_people_use() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in ("index", "search", "bench", "compare", "caption", "info", "verify", "models pull", "train dual"):
        assert f"\n## trimodal {command}\n\n```\nUsage: trimodal {command} " in text


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 7_500


def test_the_readme_links_every_page_of_docs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in readme, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    for name in NAMED.findall(page.read_text(encoding="utf-8")):
        assert any(ROOT.glob(name)), f"{name}: no such file"


@pytest.mark.skipif(not is_pulled("smollm2-135m-instruct"), reason="needs `trimodal models pull starter`")
def test_the_python_lines_of_the_readme_run_as_written(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for at in range(3):
        picture(tmp_path / "Pictures" / f"{at}.png", at)
    base = tmp_path / "cache" / "base"  # the starter's language models, without the reranker's large one
    base.mkdir(parents=True)
    for name in ("smollm2-135m-instruct", "minilm-l6-v2"):
        directory = base_directory(name)
        (base / directory.name).symlink_to(directory, target_is_directory=True)
    environment = os.environ | {"HOME": str(tmp_path), "TRIMODAL_CACHE": str(base.parent), "PYTHONPATH": str(ROOT)}
    printed = []
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == "3 added, 0 skipped\n"
    lines = [line.split() for line in printed[1].splitlines()]
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert sorted(Path(line[2]).name for line in lines) == ["0.png", "1.png", "2.png"]


def test_figures_in_the_text_are_those_of_the_measurements() -> None:
    readme, tuning = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/index-tuning.md"))
    bench = ROOT / "docs" / "bench"
    gain = re.search(r"^\| text->image \(700\) .*\| \+([\d.]+) \[", (bench / "reranker.md").read_text("utf-8"), re.M)
    assert gain and f"adds {gain[1]} points to text → picture R@1" in readme
    page = (bench / "index.md").read_text(encoding="utf-8")
    faster = [float(times) for times in re.findall(r"^\| 0\.\d+ \| hnswlib \| ([\d.]+)×", page, re.M)]
    for text in (readme, tuning):
        assert f"{min(faster):.1f} to {max(faster):.1f} times as many queries a second" in text.replace("\n", " ")
    seconds: dict[str, int] = {}
    megabytes: dict[str, int] = {}
    for name in ("trimodal", "hnswlib"):
        row = re.search(rf"^\| {name}: [^|]*\| (\d+) \|[^|]*\| ([\d,]+) ", page, re.M)
        assert row
        seconds[name], megabytes[name] = int(row[1]), int(row[2].replace(",", ""))
    assert f"built in {seconds['trimodal']} s instead of {seconds['hnswlib']}" in tuning.replace("\n", " ")
    memory = f"takes {megabytes['trimodal'] / 1000:.1f} GB instead of {megabytes['hnswlib'] / 1000:.1f}"
    assert memory in tuning.replace("\n", " ")
