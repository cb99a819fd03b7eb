# Everything is set up in .venv; nothing outside this folder is touched, but by install and uninstall.
PYTHON ?= python3
# Where `make install` puts it, and what stands before that path while a package is made.
PREFIX ?= /usr/local
DESTDIR ?=
# What it is to have beside that: postgresql, otel, or both with a comma.
EXTRAS ?=
VENV := .venv
BIN := $(VENV)/bin
# The tests mostly wait for real programs, so several at a time end sooner, also on two cores. A file is run by one
# process, because its tests share a relay.
# What pytest makes of a test file's asserts takes 8 s for all of them: it is kept, whatever the shell says of .pyc files.
export PYTHONDONTWRITEBYTECODE :=
FAST := $(BIN)/pytest -m "not slow and not long" -n 4 --dist loadfile $(TESTS)
# In our own order (tests/conftest.py): the files of minutes first.
SLOW := $(BIN)/pytest -m "slow and not long" -n 3 --dist loadfile --no-loadscope-reorder
LONG := $(BIN)/pytest -m long -n 2 --dist loadfile -rP

.PHONY: bench compiled deb demo docs install uninstall test test-all test-long test-python fast lint format clean profile test-bare

demo: $(VENV)/.run compiled          ## a relay on 127.0.0.1:2525 with a built-in upstream: send mail, watch its journey
	@$(BIN)/relay demo

test: $(VENV)/.test compiled         ## format, lint, types, and every test that takes seconds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(FAST)

test-all: $(VENV)/.test compiled     ## every point of a kill, every real client and server, pages in Chromium
	$(SLOW)

# MINUTES: how long each of the searches by hypothesis goes on. What chance decides prints its seed.
test-long: $(VENV)/.test compiled    ## chance and time: kills at random, a day, a cluster's bad day, searches: make test-long MINUTES=30
	MINUTES="$(MINUTES)" $(LONG)

test-bare: $(VENV)/.test compiled    ## the fast tests as on a machine that has no program of tests/packages.txt
	WITHOUT_PACKAGES=true $(FAST)

# TESTS: only these files and folders; WITHOUT_PACKAGES=true: as test-bare.
test-python:                         ## the fast tests on another Python, in a venv of its own: make test-python PYTHON=python3.13
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	$(MAKE) --no-print-directory fast VENV=.venv-$$version

fast: $(VENV)/.test compiled
	$(FAST)

bench: $(VENV)/.test compiled        ## Relay beside Postfix, in figures (docs/performance.md): make bench LOADS=2k-kept
	@$(BIN)/python -m tests.bench --json build/bench.json $(if $(LOADS),--loads "$(LOADS)") $(ARGS)

docs: $(VENV)/.test                  ## what is made from the code: docs/reference, docs/man, etc/completions; and relay/cli/samples from etc
	@$(BIN)/python -m docs.generate

profile: $(VENV)/.test               ## where a relay under load spends its processor time
	@$(BIN)/python -m tests.bench.hotspots $(ARGS)

install: $(BIN)/python               ## relay in an environment of its own, units, pages, settings: make install PREFIX=/usr/local
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" EXTRAS="$(EXTRAS)" PYTHON="$(PYTHON)" PIP_PYTHON="$(BIN)/python" etc/packaging/install.sh

uninstall:                           ## takes that away again; settings, mail and passwords stay
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" etc/packaging/uninstall.sh

deb: $(BIN)/python                   ## build/relay_VERSION_ARCHITECTURE.deb, a package for the Debian of this machine
	@PIP_PYTHON="$(BIN)/python" etc/packaging/deb.sh

lint: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Relay needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Call: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# The bytecode of our modules, as an installation has it. Where PYTHONDONTWRITEBYTECODE is set, every `relay` would compile
# all of them anew: half a second.
compiled: | $(BIN)/python
	@$(BIN)/python -m compileall -q relay

# Earlier versions were the distribution "relay", which pip would leave beside this one.
define rename
@$(BIN)/python -m pip uninstall -qq --yes relay
@rm -rf relay.egg-info
endef

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(rename)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(rename)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/.run
