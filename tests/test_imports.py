"""The one-way street of imports, and that looking at the program is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imported_modules(path: Path) -> set[str]:
    """Top-level names of every module that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_neither_package_imports_the_command_line() -> None:
    for package in ("indexer", "retrieval"):
        for path in (ROOT / package).rglob("*.py"):
            assert not imported_modules(path) & {"cli", "typer", "trimodal"}, path


def test_the_indexer_does_not_import_retrieval() -> None:
    for path in (ROOT / "indexer").rglob("*.py"):
        assert "retrieval" not in imported_modules(path), path


@pytest.mark.parametrize(("module", "room"), [("faiss", "indexer/ann"), ("sqlalchemy", "indexer/collection/catalog")])
def test_one_room_imports_it(module: str, room: str) -> None:
    importers = {
        path.parent.relative_to(ROOT).as_posix()
        for package in ("indexer", "retrieval")
        for path in (ROOT / package).rglob("*.py")
        if module in imported_modules(path)
    }
    assert importers == {room}


@pytest.mark.parametrize(
    "code",
    [
        "import retrieval",
        "from retrieval import Searcher",
        "import indexer.build.run",
        "import indexer.encoders.registry",
        "import indexer.encoders.trained, indexer.encoders.onnx.text_side, indexer.encoders.onnx.text_tower",
        "import retrieval.rerank.registry, retrieval.rerank.trained, retrieval.rerank.stage",
    ],
)
def test_importing_does_not_bring_torch(code: str) -> None:
    check = f"{code}; import sys; sys.exit(not {{'torch', 'transformers', 'onnx', 'sqlglot'}}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_help_brings_neither_torch_nor_faiss_nor_numpy() -> None:
    check = (
        "import sys\nfrom trimodal.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'faiss', 'numpy', 'sqlalchemy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "search" in done.stdout
