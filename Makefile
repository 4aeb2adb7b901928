# make demo   install into .venv and play a day of a simulated cluster: pages at http://127.0.0.1:8080
# make test   install what the tests need and run every check; the first time it builds a control plane (7 minutes)
# Both need python3 (3.11 or newer), make and a package registry; PYTHON=/path/to/python3 picks another Python.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test constraints manifests

help:
	@sed -n '/^# make/s/^# //p' Makefile

demo: .venv/product
	$(BIN)/muster up --demo

test: .venv/tests .cache/chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter
	$(BIN)/pytest -n 2 --dist worksteal -m "not cluster"
	$(BIN)/pytest -m cluster

# Renders what comes of the chart and of the custom resources' types; tests fail where they are not those.
manifests: .venv/tests
	$(BIN)/python -m controller.crds.generate deploy/crds deploy/chart/muster/files/crds
	$(BIN)/helm template muster deploy/chart/muster --set crds.install=false --api-versions policy/v1 \
		| sed 's|managed-by: Helm|managed-by: muster|' > deploy/kustomize/base/muster.yaml

# Writes constraints.txt anew, with the newest versions that pyproject.toml allows.
constraints:
	rm -rf .cache/newest && mkdir -p .cache && $(PYTHON) -m venv .cache/newest
	.cache/newest/bin/python -m pip install --quiet --upgrade setuptools wheel
	.cache/newest/bin/python -m pip install --quiet --no-build-isolation --editable '.[test]'
	.cache/newest/bin/python -m pip freeze --all --exclude-editable --exclude pip | LC_ALL=C sort --ignore-case > constraints.txt

# The pages are tested in a real browser: the system's Chromium, which root can install on Debian.
.cache/chromium:
	@mkdir -p .cache
	@command -v chromium >/dev/null || $(INSTALL_CHROMIUM)
	@touch $@

# The stamps make a second run quick: they are older than their sources only when something must be installed.
.venv/product: .venv/python
	$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

.venv/tests: .venv/python
	$(PIP_INSTALL) --no-build-isolation --editable '.[test]'
	@touch $@ .venv/product

.venv/python: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("muster needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=/path/to/a/newer/python3")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(INSTALL_VENV)
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) setuptools wheel
	@touch $@

define INSTALL_CHROMIUM
{ \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy chromium; \
	else echo 'no chromium here: tests of the pages will be skipped (Debian: apt-get install chromium)' >&2; fi; }
endef

# Debian packs venv apart from Python; root can install it, others are told how.
define INSTALL_VENV
{ \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy python3-venv; \
	else echo 'Python has no venv module here; install it (Debian: apt-get install python3-venv) and try again' >&2; exit 1; fi; }
endef
