# `make demo` and `make test` need Python >= 3.11 and make, nothing else; both may be repeated.
# PYTHON=python3.13 makes the virtual environment with another interpreter.
PYTHON ?= python3

BIN := .venv/bin
PIN := -c constraints.txt --build-constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

# Tests run in two processes; JOBS=1 runs them in one, JOBS=8 in eight.
JOBS ?= 2
PYTEST = pytest -q -n $(JOBS) --dist worksteal
# Threads of OpenBLAS keep a core busy while they wait; mining of environments takes twice as long.
check test lowest: export OPENBLAS_NUM_THREADS ?= 1
# Those of OpenMP (PyTorch) sleep instead: comparisons of small networks take a third of the time.
check test lowest: export OMP_WAIT_POLICY ?= passive
# Tests start hundreds of processes; without bytecode on disk each compiles the package and the tests anew.
check test lowest: export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo check test pages lint lowest format docs notebooks figures benchmark record wheel release-check clean
.DELETE_ON_ERROR:

demo: .venv/core.stamp
	$(BIN)/phaseseg demo

lint: .venv/test.stamp
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Before every commit: a minute and a half.
check: lint
	$(BIN)/$(PYTEST) -m "not slow"

# What a release needs: all tests, every example of the pages, the documentation, the wheel.
test: .venv/test.stamp
	$(MAKE) -j2 lint pages
	$(BIN)/$(PYTEST)

pages: .venv/test.stamp
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

# The same code with the lowest version of every direct dependency.
lowest: .venv-lowest/stamp
	NUMBA_CACHE_DIR=$(CURDIR)/.venv-lowest/numba .venv-lowest/bin/$(PYTEST) tests/core tests/families tests/faces -W default

format: .venv/test.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/test.stamp
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html
	@echo "Written: docs/_build/html/index.html"

# The notebooks with their outputs, in docs/_build/notebooks; NAMES=mobility for one of them.
notebooks: .venv/test.stamp
	$(BIN)/pip install --quiet --group notebooks $(PIN)
	$(BIN)/python docs/notebooks/execute.py $(NAMES)

# The pictures of the pages; OVITO needs a Vulkan driver for three of the scripts, the viewer Chromium for another.
figures: .venv/test.stamp
	for script in docs/figures/make_*.py; do $(BIN)/python $$script || exit 1; done

benchmark: .venv/test.stamp
	PHASESEG_BENCHMARK=$(or $(PHASESEG_BENCHMARK),full) $(BIN)/pytest -s --benchmark-enable tests/benchmarks

# What the bundled checkpoints say of some frames: `make record NAMES=gat-v2` for a new one.
record: .venv/test.stamp
	cd tests && ../$(BIN)/python -m checkpoints.record $(NAMES)

wheel: .venv/test.stamp
	$(BIN)/pip install --quiet build -c constraints.txt
	$(BIN)/python -m build

# The notebooks, and the wheel in a clean environment of every CPython on this machine; with LOWEST=1 the tests on the lowest dependencies, too.
release-check: .venv/test.stamp notebooks
	$(BIN)/pip install --quiet build -c constraints.txt
	$(BIN)/python tests/release.py
	$(if $(LOWEST),$(MAKE) lowest)

clean:
	rm -rf .venv .venv-lowest build dist docs/_build docs/api demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/core.stamp: .venv/pip.stamp $(INPUTS)
	$(BIN)/pip install --quiet --editable . $(PIN)
	@touch $@

.venv/test.stamp: .venv/pip.stamp $(INPUTS)
	$(BIN)/pip install --quiet --editable '.[ovito,simulate,train,dask,gsd]' --group test --group docs $(PIN)
	@touch $@ .venv/core.stamp

# A pip that knows dependency groups and build constraints.
.venv/pip.stamp: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.13 ...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	@touch $@

.venv-lowest/stamp: .venv/test.stamp tests/lowest.py
	test -x .venv-lowest/bin/pip || $(PYTHON) -m venv .venv-lowest
	$(BIN)/python tests/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --upgrade pip -c constraints.txt
	.venv-lowest/bin/pip install --quiet --editable '.[ovito,simulate,train,dask,gsd]' --group test \
	  -c .venv-lowest/lowest.txt --build-constraint constraints.txt
	@touch $@
