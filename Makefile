# make demo    prune the demo model and print what it kept and lost: some minutes
# make table   the whole table of the README, 174 evaluations
# make test    the test suite; test-slow: the long tests
# make test-lowest   a part of it with the oldest packages that are allowed, in an environment of its own
# make extras  each extra in an environment of its own, from the wheel
# make coverage   what the tests of four rooms reach; fails below 95 %
# make mutation   do those tests notice wrong code? An hour; see docs/mutation.md
# make check   formatting, lint, types
# make docs    the documentation as a site, in build/site
# make bench   the measurements that take minutes, see benchmarks/README.md
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Idle OpenMP threads that spin make everything many times slower on a shared machine.
export GOMP_SPINCOUNT ?= 0

.PHONY: install demo table test test-slow test-lowest extras coverage mutation check format bench docs clean
install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	rm -rf runs/demo-math
	$(BIN)/easyep prune --model demo --domain math --keep 0.5 --output runs/demo-math
	$(BIN)/easyep eval runs/demo-math --against demo --batch-size 100 --dtype float32
	$(BIN)/easyep run recipes/demo-quick.yaml --work-dir runs/quick

table: install
	$(BIN)/easyep run recipes/demo.yaml --work-dir runs/table

test: install
	$(BIN)/python -m pytest -n auto

test-slow: install
	$(BIN)/python -m pytest -m slow -n auto

# Tests that lean on other packages. Those of families that only a later transformers has are skipped.
# Old packages may warn of what is to come.
LOWEST := build/lowest
LEANING := tests/artifacts tests/criteria tests/demonstrations tests/presenting tests/reporting \
	tests/selection tests/evaluation/engines/test_server.py tests/evaluation/test_accuracy.py \
	tests/evaluation/test_tasks.py tests/checkpoint/test_files.py \
	tests/checkpoint/test_verification.py tests/observation/test_experts.py \
	tests/observation/test_families.py tests/observation/test_in_memory.py \
	tests/observation/test_mtp_layer.py tests/observation/test_partitioned.py \
	tests/observation/test_streaming.py tests/architectures/test_releases.py \
	tests/architectures/test_silent_mtp.py tests/test_dependencies.py tests/test_loading.py \
	tests/test_masking.py tests/test_pipeline.py
test-lowest:
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip # an old one searches for very long
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev]'
	$(LOWEST)/bin/python -m pip check
	$(LOWEST)/bin/python -m pytest -W default $(LEANING)

extras:
	PYTHON=$(PYTHON) .ci/extras

coverage: install
	$(BIN)/python benchmarks/room_coverage.py

JOBS ?= $(shell nproc)
mutation: install
	$(BIN)/python benchmarks/mutation.py criteria --jobs $(JOBS)
	$(BIN)/python benchmarks/mutation.py selection --jobs $(JOBS)
	$(BIN)/python benchmarks/mutation.py layout --jobs $(JOBS)
	$(BIN)/python benchmarks/mutation.py rewriting --jobs $(JOBS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python benchmarks/rewriting.py
	$(BIN)/python benchmarks/verifying.py
	$(BIN)/python benchmarks/one_read.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/pairs.py
	$(BIN)/python benchmarks/observing.py
	$(BIN)/python benchmarks/distributed.py
	$(BIN)/python benchmarks/throughput.py --size demo
	$(BIN)/python benchmarks/diffusion.py
	$(BIN)/python benchmarks/large_machines.py benchmarks/results/2026-11-22-streaming.json

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean:
	rm -rf runs build dist .coverage .pytest_cache .mypy_cache .ruff_cache
