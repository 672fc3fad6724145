PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow browser-test readme-test lint format fuzz docs bench bench-quick crash-test soak clean

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(READY)
	@echo "searches a small disparity network on procedural data: 4 to 8 minutes on a quiet machine"
	$(BIN)/autodisp-search experiment=demo

# One thread a process: operations as small as the tests' are slower on two.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
LONG := slow or export or fuzz or package

test: $(READY)
	$(PYTEST) -m "not ($(LONG))"

# The rest of the tests; a file stays in one process, since its exported networks take longer than its tests.
test-slow: $(READY)
	$(PYTEST) --dist loadfile -m "$(LONG)"

# The report's pages in Chromium (Debian's package); skips, saying so, where there is none.
browser-test: $(READY)
	$(BIN)/pip install --quiet --editable '.[browser]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/browser/report_pages.py

# The README's commands on small made data.
readme-test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.readme

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The page of all settings, from the schema; a test says when it is due.
docs: $(READY)
	$(BIN)/python -m autodisp.config.reference docs/config.md

# 100,000 damaged files; those that end as none may are kept in runs/fuzz.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzzing

bench: $(READY)
	$(BIN)/python -m benchmarks.run

bench-quick: $(READY)
	$(BIN)/python -m benchmarks.run --quick

# Searches killed at 50 moments each, both tasks under each policy.
crash-test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.crashing

# A search of 2,000 tiny epochs, looked at from outside; needs the CIFAR-10 files of ../shared.
soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak

clean:
	rm -rf .venv build dist *.egg-info
