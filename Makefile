# The one entry: demo test lint types bench attack docs. `make demo` and `make test` need nothing done before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# faiss-cpu and faiss-gpu both provide `faiss`: one of them, by whether there is a GPU.
FAISS := $(if $(shell command -v nvidia-smi 2>/dev/null),gpu,cpu)
DEMO := .demo
SPEED := .speed

.PHONY: demo test test-all lint types bench bench-speed bench-attributes attack docs clean

demo: $(VENV)/.installed
	@TRIMODAL="$(BIN)/trimodal" DEMO="$(DEMO)" bash data/demo/demo.sh

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not network"

test-all: $(VENV)/.installed
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed
	$(BIN)/mypy

# Every figure of README.md and the model card. Data that cannot be built here (no apt-get or npm) is left out.
bench: $(VENV)/.installed
	$(BIN)/trimodal models pull starter
	-$(BIN)/python benchmarks/datasets/tuxpaint.py
	-@$(BIN)/python -c 'from indexer.encoders.weights.base_weights import cache_dir as c; exit(not (c() / "datasets/pool/manifest.jsonl").is_file())' \
		|| $(BIN)/python benchmarks/datasets/pool.py
	$(BIN)/python benchmarks/starter.py --write

# A search from Enter to hits against `import torch`, ONNX Runtime against torch, and how fast pictures and texts go in
# beside other programs: docs/bench/cold-search.md and speed.md. An hour on two cores; $(SPEED) takes 3 GB.
bench-speed: $(VENV)/.installed
	$(BIN)/trimodal models pull starter
	$(BIN)/trimodal index data/demo/manifest.jsonl --collection $(DEMO)
	$(BIN)/python benchmarks/cold_search.py $(DEMO) --items data/demo/manifest.jsonl --openclip
	$(BIN)/python -m benchmarks.speed.run $(SPEED)

# The true one of two captions that differ in a relation, a number or a colour: docs/bench/attributes.md.
bench-attributes: $(VENV)/.installed
	$(BIN)/trimodal models pull starter
	@$(BIN)/python -c 'from indexer.encoders.weights.base_weights import cache_dir as c; exit(not (c() / "datasets/composites/manifest.jsonl").is_file())' \
		|| $(BIN)/python benchmarks/datasets/composites.py
	$(BIN)/python benchmarks/attributes.py --rerank

# Damaged files by the thousand, bombs, strangers' models, kills and failing disks; the tables of docs/reliability.md.
attack: $(VENV)/.installed
	$(BIN)/python -m benchmarks.attack.run

# The --help texts in docs/cli.md, from the program itself; a test compares them.
docs: $(VENV)/.installed
	$(BIN)/python -m cogapp -r -I docs docs/cli.md

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trimodal needs Python 3.11 or later; run make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (torch and friends: a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(FAISS),svg,heic,captions,dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) $(SPEED) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
