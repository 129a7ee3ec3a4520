# One command per habit. Each sets up the virtual environment that it needs; nothing outside this folder changes.
PYTHON ?= python3
VENV ?= .venv-dev
REQUIREMENTS ?= requirements/dev.txt
DEMO_VENV ?= .venv-demo
BENCH_VENV ?= .venv-bench
BENCH4_VENV ?= .venv-bench-koherent4
BENCH_ARGS ?=
PYTEST_ARGS ?=
export DJANGO_SETTINGS_MODULE = example_schema.settings

READY = $(VENV)/.ready
DEMO_READY = $(DEMO_VENV)/.ready
BENCH_READY = $(BENCH_VENV)/.ready $(BENCH4_VENV)/.ready
RUN = $(VENV)/bin/python
DEMO_RUN = $(DEMO_VENV)/bin/python
DEMO_DATA = .cache/demo.sqlite3
BENCH_RUN = BENCH_KOHERENT4_PYTHON=$(BENCH4_VENV)/bin/python $(BENCH_VENV)/bin/python -m benchmarks
# The second test project, with models of every kind.
WIDE = --ds=tests.wide.settings tests/wide
# Two workers: each has its own databases, the Redis one included.
SIDE_BY_SIDE = -n 2 -p tests.workers
# On PostgreSQL two entries of one statement are a run already, so that everything that reads meets runs of all kinds.
SMALL_RUNS = -p tests.small_runs
ON_POSTGRES = EXAMPLE_DB=postgres EXAMPLE_REDIS=$${EXAMPLE_REDIS:-redis://127.0.0.1:6379/0}

.DEFAULT_GOAL := help
.PHONY: help demo serve test postgres lint types imports migrations sdl sdl-check locks ci deep bench bench-read bench-growth bench-huge bench-undo bench-feed clean

help: ## list these commands
	@grep -E '^[a-z0-9-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

$(READY): $(REQUIREMENTS)
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install -qq --disable-pip-version-check -r $(REQUIREMENTS)
	$(RUN) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEMO_READY): requirements/demo.txt
	@echo "Setting up the demo (about a minute, once) ..."
	@$(PYTHON) -m venv --clear $(DEMO_VENV)
	@$(DEMO_RUN) -m pip install -qq --disable-pip-version-check -r requirements/demo.txt
	@touch $@

demo: $(DEMO_READY) ## the product in one minute, on a real server
	@EXAMPLE_SQLITE=$(DEMO_DATA) $(DEMO_RUN) -m example_schema.demo

serve: $(DEMO_READY) ## keep a server running on the demo's data
	@EXAMPLE_SQLITE=$(DEMO_DATA) $(DEMO_RUN) -m example_schema.demo --serve

test: $(READY) ## the test suite on SQLite and the in-memory channel layer
	$(RUN) -m pytest $(SIDE_BY_SIDE) --dist loadfile $(PYTEST_ARGS)
	$(RUN) -m pytest $(WIDE) $(SIDE_BY_SIDE) $(PYTEST_ARGS)

postgres: $(READY) ## the same suite on a running PostgreSQL (PGHOST, PGUSER, ...) and Redis (EXAMPLE_REDIS)
	$(ON_POSTGRES) $(RUN) -m pytest $(SIDE_BY_SIDE) $(SMALL_RUNS) --dist loadfile $(PYTEST_ARGS)
	$(ON_POSTGRES) $(RUN) -m pytest $(WIDE) $(SIDE_BY_SIDE) $(SMALL_RUNS) $(PYTEST_ARGS)

.PHONY: kante
KANTE_READY = .venv-kante/.ready

$(KANTE_READY): requirements/kante.txt
	$(PYTHON) -m venv --clear .venv-kante
	.venv-kante/bin/python -m pip install -qq --disable-pip-version-check -r requirements/kante.txt
	@touch $@

kante: $(KANTE_READY) ## attribution in a project of Kante and authentikate, with their pins (Python 3.12 or newer)
	.venv-kante/bin/python -m pytest --ds=tests.kante.settings tests/kante $(PYTEST_ARGS)

.PHONY: koherent4
koherent4: $(KANTE_READY) $(BENCH4_VENV)/.ready ## a project moves here from koherent 4.1.1, as docs/koherent4.md says (a running PostgreSQL)
	for database in sqlite postgres; do \
		EXAMPLE_DB=$$database KOHERENT4_PYTHON=$(CURDIR)/$(BENCH4_VENV)/bin/python \
			.venv-kante/bin/python -m pytest tests/koherent4 $(PYTEST_ARGS) || exit 1; \
	done

.PHONY: browser screenshots chromium
BROWSER_READY = .venv-browser/.ready
BROWSER ?= $(shell command -v chromium || command -v chromium-browser)
BROWSE = BROWSER=$(BROWSER) .venv-browser/bin/python -m pytest tests/browser $(PYTEST_ARGS)

$(BROWSER_READY): requirements/browser.txt
	$(PYTHON) -m venv --clear .venv-browser
	.venv-browser/bin/python -m pip install -qq --disable-pip-version-check -r requirements/browser.txt
	@touch $@

chromium: ## install Debian's chromium, which the browser tests drive (as root)
	apt-get install -y -qq chromium

browser: $(BROWSER_READY) ## the admin in a real browser (BROWSER names it; `make chromium` installs one)
	@test -n "$(BROWSER)" || { echo "no chromium on this machine: make chromium"; exit 1; }
	$(BROWSE)

screenshots: $(BROWSER_READY) ## the same, and keep its pictures in docs/images
	BROWSER_SCREENSHOTS=docs/images $(BROWSE)

.PHONY: clients clients-run clients-generated
CLIENTS_READY = .venv-clients/.ready
CLIENTS_BIN = $(CURDIR)/.venv-clients/bin
CLIENTS_URL ?= http://127.0.0.1:8000

$(CLIENTS_READY): requirements/clients.txt
	$(PYTHON) -m venv --clear .venv-clients
	$(CLIENTS_BIN)/python -m pip install -qq --disable-pip-version-check -r requirements/clients.txt
	$(CLIENTS_BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $@

clients: $(CLIENTS_READY) ## generate and type-check the programs of examples/clients (Python 3.12 or newer, Node 20 or newer)
	rm -rf examples/clients/*/notebook
	cd examples/clients/ariadne && $(CLIENTS_BIN)/ariadne-codegen client --config ariadne.toml
	cd examples/clients/ariadne && $(CLIENTS_BIN)/mypy --config-file ../mypy.ini main.py
	cd examples/clients/turms && $(CLIENTS_BIN)/turms gen
	cd examples/clients/turms && $(CLIENTS_BIN)/mypy --config-file ../mypy.ini main.py
	cd examples/clients/typescript && npm install --silent --no-audit --no-fund
	cd examples/clients/typescript && npm run --silent generate && npm run --silent check && npm run --silent build

clients-run: ## run them against a running example (CLIENTS_URL)
	cd examples/clients/ariadne && $(CLIENTS_BIN)/python main.py $(CLIENTS_URL)
	cd examples/clients/turms && $(CLIENTS_BIN)/python main.py $(CLIENTS_URL)
	cd examples/clients/typescript && node build/main.js $(CLIENTS_URL)

clients-generated: $(READY) clients ## the same as a test, on a server of its own
	CLIENTS_PYTHON=$(CLIENTS_BIN)/python $(RUN) -m pytest tests/clients $(PYTEST_ARGS)

.PHONY: docs docs-serve
DOCS_READY = .venv-docs/.ready

$(DOCS_READY): requirements/docs.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install -qq --disable-pip-version-check -r requirements/docs.txt
	@touch $@

docs: $(DOCS_READY) ## the documentation site, in build/site; a warning or a dead link is a failure
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

docs-serve: $(DOCS_READY) ## the same, on a local server that follows your edits
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve

.PHONY: package matrix wheel
wheel: $(READY) ## build the wheel, in dist/
	$(RUN) -m hatchling build --target wheel

package: $(READY) ## build wheel and sdist, look inside, install each alone and use it, follow the tutorial
	BUILT_PACKAGE=1 $(RUN) -m pytest tests/package $(PYTEST_ARGS)

NOX_READY = .venv-nox/.ready

$(NOX_READY): requirements/nox.txt
	$(PYTHON) -m venv --clear .venv-nox
	.venv-nox/bin/python -m pip install -qq --disable-pip-version-check -r requirements/nox.txt
	@touch $@

# pyenv's interpreters are found too.
matrix: $(NOX_READY) ## every supported Python, Django, Strawberry and database; hours (NOX_ARGS="-s 'tests(3.12-django6.0-oldest-sqlite)'")
	PATH="$(CURDIR)/.venv-nox/bin:$(shell printf '%s:' $(wildcard $(HOME)/.pyenv/versions/3.1[123].*/bin))$$PATH" \
		env -u DJANGO_SETTINGS_MODULE nox $(NOX_ARGS)

.PHONY: clients-graphql-ws
clients-graphql-ws: $(READY) ## graphql-ws from npm watches, loses its connection and resumes, at uvicorn and daphne (Node 20 or newer)
	cd tests/sockets/graphql_ws && npm install --silent --no-audit --no-fund --no-package-lock
	GRAPHQL_WS=1 $(RUN) -m pytest tests/sockets $(PYTEST_ARGS)

lint: $(READY) ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(READY) ## mypy, strict, over the package, the example and the tests
	$(RUN) -m mypy

imports: $(READY) ## the architecture's arrows
	$(VENV)/bin/lint-imports

migrations: $(READY) ## models and migrations agree
	$(RUN) -m django makemigrations --check --dry-run
	$(RUN) -m django check --fail-level WARNING

sdl: $(READY) ## write schema.graphql from the example's schema
	$(RUN) -m django export_schema example_schema.schema:schema --path schema.graphql

sdl-check: $(READY) ## schema.graphql is what the example exports
	@mkdir -p .cache
	$(RUN) -m django export_schema example_schema.schema:schema --path .cache/schema.graphql
	diff -u schema.graphql .cache/schema.graphql

.PHONY: sdl-release
sdl-release: $(READY) ## when a version is released: what later changes to our part of the SDL are compared with
	$(RUN) -m django koherent_schema --path tests/graphql/released.graphql

$(BENCH_VENV)/.ready: requirements/bench.txt
	$(PYTHON) -m venv --clear $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r requirements/bench.txt
	@touch $@

$(BENCH4_VENV)/.ready: requirements/bench-koherent4.txt
	$(PYTHON) -m venv --clear $(BENCH4_VENV)
	$(BENCH4_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r requirements/bench-koherent4.txt
	@touch $@

bench: $(BENCH_READY) ## writes, beside the other packages, on SQLite and a running PostgreSQL (BENCH_ARGS=--help)
	$(BENCH_RUN) writes --processes 3 $(BENCH_ARGS)

bench-read: $(BENCH_READY) ## pages of history, beside the other packages, at a million entries
	$(BENCH_RUN) read $(BENCH_ARGS)

bench-growth: $(BENCH_READY) ## koherent's pages at ten thousand and a million entries
	$(BENCH_RUN) growth $(BENCH_ARGS)

bench-huge: $(BENCH_READY) ## the same at ten million, on PostgreSQL; needs about 20 GB there
	$(BENCH_RUN) growth --packages koherent_10k,koherent_10m --databases postgresql $(BENCH_ARGS)

bench-undo: $(BENCH_READY) ## undo, beside the packages that have one
	$(BENCH_RUN) undo $(BENCH_ARGS)

bench-feed: $(READY) ## the live feed over real sockets, beside what one would write by hand (PostgreSQL and Redis)
	EXAMPLE_REDIS=$${EXAMPLE_REDIS:-redis://127.0.0.1:6379/0} $(RUN) -m benchmarks feed $(BENCH_ARGS)

locks: ## pin requirements/*.txt anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml --extra example --group dev -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml --extra example -o requirements/demo.txt
	uv pip compile -q --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml --extra example --group test --constraint requirements/oldest.in -o requirements/oldest.txt
	uv pip compile -q --universal --python-version 3.12 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml requirements/bench.in -o requirements/bench.txt
	uv pip compile -q --universal --python-version 3.12 --no-header --no-annotate --no-emit-index-url --upgrade \
		requirements/bench-koherent4.in -o requirements/bench-koherent4.txt
	uv pip compile -q --python-version 3.12 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml requirements/kante.in --extra example --group test -o requirements/kante.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml requirements/browser.in --extra example --group test -o requirements/browser.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml requirements/docs.in --extra example -o requirements/docs.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade \
		requirements/nox.in -o requirements/nox.txt
	uv pip compile -q --python-version 3.12 --no-header --no-annotate --no-emit-index-url --upgrade \
		pyproject.toml requirements/clients.in --extra example -o requirements/clients.txt

ci: ## what has to be green before a change goes in
	bash .ci/run

deep: $(READY) ## the long tier: three random orders, memory ceilings and plans on a million rows (needs a running PostgreSQL)
	ADOPTION_ROWS=200000 $(RUN) -m pytest tests/adoption $(PYTEST_ARGS)
	ADOPTION_ROWS=200000 $(ON_POSTGRES) $(RUN) -m pytest tests/adoption $(PYTEST_ARGS)
	RETENTION_ROWS=1000000 $(RUN) -m pytest tests/retention/test_memory.py $(PYTEST_ARGS)
	REVERT_CHANGES=100000 $(RUN) -m pytest tests/revert/test_size.py $(PYTEST_ARGS)
	REVERT_EXAMPLES=1000 $(RUN) -m pytest --timeout=3600 --ds=tests.wide.settings tests/wide/revert/test_machine.py $(PYTEST_ARGS)
	REVERT_EXAMPLES=300 EXAMPLE_DB=postgres $(RUN) -m pytest --timeout=3600 --ds=tests.wide.settings tests/wide/revert/test_machine.py $(PYTEST_ARGS)
	FUZZ_EXAMPLES=2000 FUZZ_SECONDS=300 $(RUN) -m pytest tests/security/test_fuzz.py $(PYTEST_ARGS)
	FUZZ_EXAMPLES=500 FUZZ_SECONDS=300 $(ON_POSTGRES) $(RUN) -m pytest tests/security/test_fuzz.py $(PYTEST_ARGS)
	FEED_TRANSACTIONS=450 $(ON_POSTGRES) $(RUN) -m pytest --timeout=1200 tests/postgres/test_commit_order.py tests/postgres/test_commit_order_streams.py $(PYTEST_ARGS)
	REVERT_ROUNDS=500 EXAMPLE_DB=postgres $(RUN) -m pytest --timeout=3600 tests/postgres/test_revert_races.py $(PYTEST_ARGS)
	for seed in 1 2 3; do \
		$(RUN) -m pytest -p no:cacheprovider --randomly-seed=$$seed $(PYTEST_ARGS) && \
		$(RUN) -m pytest -p no:cacheprovider --randomly-seed=$$seed $(WIDE) $(PYTEST_ARGS) || exit 1; \
	done
	$(MAKE) plans
	$(MAKE) browser
	$(MAKE) clients-generated
	$(MAKE) docs
	$(MAKE) package
	$(MAKE) koherent4
	$(MAKE) matrix
	$(MAKE) clients-graphql-ws

.PHONY: plans
plans: $(READY) ## on a million rows in a running PostgreSQL: which index each filter uses, and that pages do not grow
	EXAMPLE_DB=postgres EXAMPLE_ROWS=$${EXAMPLE_ROWS:-1000000} $(RUN) -m pytest tests/plans --timeout 900 $(PYTEST_ARGS)

.PHONY: soak
soak: $(READY) ## a quarter of an hour of subscribers that come and go, on a running PostgreSQL and Redis (SOAK_ARGS=--help)
	EXAMPLE_REDIS=$${EXAMPLE_REDIS:-redis://127.0.0.1:6379/0} $(RUN) -W ignore -m tests.soak $(SOAK_ARGS)

clean: ## remove environments, caches and the demo's data
	rm -rf .venv* .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage dist build *.sqlite3
