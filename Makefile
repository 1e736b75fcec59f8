# make app    the page at http://127.0.0.1:7860
# make test   the whole test suite
# make faults tests/faults in full: some 50 kills of real workers
# make check  lint, types, import levels and the quick tests
# make docs   docs/settings.md, out of the settings; make pictures: docs/images, out of the running app
# Each makes the environment .venv first when it is missing or its requirements changed.

VENV ?= .venv
BIN := $(VENV)/bin
# The first Python of at least 3.11 that runs; set PYTHON to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: words app test faults check docs pictures lock clean

app: $(VENV)/.app
	$(BIN)/python app.py

# Most tests side by side, then those that keep both cores busy by themselves.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone and not browser"
	$(BIN)/python -m pytest -m "alone or browser"

faults: $(VENV)/.dev
	PHI3TUNE_FAULTS=full $(BIN)/python -m pytest tests/faults

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser"

# Adds new texts of the page to the catalogue, and says how many wait to be translated.
words: $(VENV)/.app
	$(BIN)/python -m recipes.words

docs: $(VENV)/.app
	$(BIN)/python -m phi3tune.cli.settings_page > docs/settings.md

pictures: $(VENV)/.dev
	$(BIN)/python -m docs.make_pictures

# Pins what requirements.txt and requirements-dev.txt bring along. Local versions (+cpu) are cut: the
# lock is for every build of torch.
lock: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > requirements.lock

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find phi3tune tests recipes benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "phi3tune needs Python 3.11 or later; none was found. Set PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.app: $(VENV)/.made requirements.txt requirements.lock pyproject.toml
	$(PIP) install --quiet -r requirements.txt -c requirements.lock
	$(PIP) install --quiet --no-deps --editable .
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib phi3tune app.py >/dev/null || true
	touch $@

$(VENV)/.dev: $(VENV)/.app requirements-dev.txt
	$(PIP) install --quiet -r requirements-dev.txt -c requirements.lock
	touch $@
