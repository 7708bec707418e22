# make help lists the targets. PYTHON (3.11 or newer) makes the virtual environment VENV.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CHECKPOINT := checkpoints/lclipseg-lite0-everyday
WEB_CHECKPOINT := checkpoints/lclipseg-mbv3s-everyday
WEB_PORT ?= 8000
SERVE_PORT ?= 8080

.PHONY: help demo page serve web test test-slow test-hf test-oldest lint format audit cards models
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## segment three photographs by words with a checkpoint that ships here
	$(BIN)/python scripts/demo_overlay.py --out demo-output/overlay.png
	@echo "lclipseg is in $(VENV), which \"source $(BIN)/activate\" makes this shell's"

test: $(VENV)/.installed-dev  ## the test suite: offline, minutes on two cores
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/.installed-dev  ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

test-hf: $(VENV)/.installed-dev  ## transformers' own common tests and example scripts (fetches them once)
	$(BIN)/pip install --quiet "albumentations>=1.4.16"
	$(BIN)/python tests/hf/fetch.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m hf tests/hf --quiet

test-oldest:  ## the model's tests with the lowest versions that setup.cfg promises, in .venv-oldest
	PYTHON=$(PYTHON) .ci/oldest

lint: $(VENV)/.installed-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## let ruff put the files in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(VENV)/.installed-dev  ## known holes in what is installed; asks PyPI and npm, and fails where either cannot answer
	$(BIN)/pip freeze --exclude-editable | $(BIN)/pip-audit --strict --disable-pip --no-deps --requirement /dev/stdin
	cd scripts/web && npm audit

page: $(VENV)/.installed  ## the demo page, for your own images and classes
	$(BIN)/pip install --quiet --editable ".[demo]"
	$(BIN)/python scripts/space/app.py --model $(CHECKPOINT)

serve: $(VENV)/.installed  ## an HTTP server with the checkpoint that ships here, on port SERVE_PORT
	$(BIN)/pip install --quiet --editable ".[torch,serve]"
	$(BIN)/lclipseg serve $(CHECKPOINT) --port $(SERVE_PORT)

web: $(VENV)/.installed  ## the page that runs in the browser itself, in build/web, on port WEB_PORT
	$(BIN)/pip install --quiet --editable ".[export]"
	$(BIN)/lclipseg export $(WEB_CHECKPOINT) --vocabulary open --label_map --out build/web/model
	cp configuration/words/vitb16.safetensors build/web/words.safetensors
	cp configuration/words/vitb16_names.json build/web/words_names.json
	cd scripts/web && npm ci --no-audit --no-fund && npm run build
	@echo "http://127.0.0.1:$(WEB_PORT)/"
	$(BIN)/python -m http.server $(WEB_PORT) --bind 127.0.0.1 --directory build/web

cards: $(VENV)/.installed-dev  ## renew the model cards from the records, and the checkpoints' links to their code
	$(BIN)/python scripts/cards.py

models: $(VENV)/.installed-dev  ## renew the table of presets in README.md
	$(BIN)/python scripts/model_table.py --write README.md

# Each stamp is newer than setup.cfg while the environment has what setup.cfg asks for.
$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[torch]"
	touch $@

$(VENV)/.installed-dev: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.installed
