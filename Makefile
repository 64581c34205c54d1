# Two commands for a newcomer: `make run` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
UV ?= uv
# Some machines set this one; then every start would compile 4,000 modules again, in memory.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(PY) -m pip install -q --disable-pip-version-check --no-compile
# Only changed files are compiled. Packages ship files for other Pythons, hence no word about those that do not compile.
COMPILE := $(PY) -m compileall -q -q -j 0

.PHONY: run install test check bench chaos lock clean

run: install
	@exec $(PY) -m token_tracker.run all

install: $(VENV)/.runtime
	@$(COMPILE) token_tracker

# The venv is made only if its interpreter is missing; a broken or half-made one is completed by pip.
$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python …" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Token Tracker needs Python 3.11 or newer; this is %s. Name another one: make PYTHON=python3.12 …" % sys.version.split()[0])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing. On Debian or Ubuntu: apt install python3-venv, then run make again." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(PY)
	@echo "Installing the locked dependencies into $(VENV) (about two minutes the first time) …"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --no-index -e .
	@$(COMPILE) $(VENV)/lib || true
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing what tests need …"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@$(COMPILE) $(VENV)/lib || true
	@touch $@

# Three processes, as much of a test is waiting; a file's tests stay in one (tests/scheduling.py). Failing ones alone: .venv/bin/python -m pytest tests/…
test: install $(VENV)/.dev
	@$(PY) -m pytest -n 3 --dist loadfile

check: $(VENV)/.dev
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

bench: install $(VENV)/.dev
	@$(PY) -m benchmarks.run

# make chaos SECONDS=600 SEED=7 DATABASE=postgresql; TEST_DATABASE_URL names another PostgreSQL server.
SECONDS ?= 60
SEED ?= 1
DATABASE ?= both
chaos: install $(VENV)/.dev
	@$(PY) -m tests.chaos.run --seconds $(SECONDS) --seed $(SEED) --database $(DATABASE)

# Needs uv (pip install uv). Hashes for every platform, and no registry's address in the files.
lock:
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
