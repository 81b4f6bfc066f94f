# On a fresh machine with Python 3.11 or newer, `make demo` and `make test` first set up .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The newest versions are installed unless CONSTRAINTS names a file: make test CONSTRAINTS=constraints.txt
CONSTRAINTS ?=
INSTALLED := $(VENV)/.installed$(if $(CONSTRAINTS),-pinned)
INSTALL := $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
AUDIT := build/audit
export RAY_USAGE_STATS_ENABLED := 0
# One test worker more than there are cores, since tests often wait for Ray, and at most four. Each shares one Ray among its tests.
WORKERS := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 3 ? cores + 1 : 4)))
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal

.PHONY: demo docs test quick-tests test-slow test-long test-newest faults fuzz bench reproduce pages lint types contracts format constraints audit image-digest clean

demo: $(INSTALLED)
	$(BIN)/python -m pipeline run --preset digits_ipc1 --out runs/demo

# pyright runs beside the tests.
test: lint contracts
	$(MAKE) --no-print-directory --jobs=2 types quick-tests

quick-tests: $(INSTALLED)-test
	$(PYTEST) -m "smoke or not (slow or long)"

# SLOW="slow and not smoke" leaves out those that make test runs too.
SLOW ?= slow
test-slow: $(INSTALLED)-test
	$(PYTEST) -m "$(SLOW)"

# Processes that hang or are killed, in every stage. Half an hour on two quiet cores, not part of continuous integration.
test-long: $(INSTALLED)-test
	$(PYTEST) -m long

# The quick tests with the newest versions of all packages, in an environment of their own.
test-newest:
	rm -rf build/newest
	$(MAKE) --no-print-directory VENV=build/newest CONSTRAINTS= quick-tests

# Fifty real kills at random moments of all stages. An interrupted call resumes where it ended.
faults: $(INSTALLED)-test
	$(BIN)/python -m tests.faults --trials 50 --out runs/faults

# Damaged and hostile files of every kind for ten minutes. What fails is saved in runs/fuzz.
fuzz: $(INSTALLED)-test
	$(BIN)/python -m tests.fuzz --minutes 10

# First checks that this machine computes correctly, then measures ratios that anyone can reproduce.
# Takes about half an hour on two quiet cores.
bench: $(INSTALLED)-test
	$(BIN)/python -m tests.benchmarks.agreement
	$(BIN)/python -m tests.benchmarks.step
	$(BIN)/python -m tests.benchmarks.evaluate
	$(BIN)/python -m tests.benchmarks.ingest
	$(BIN)/python -m tests.benchmarks.scaling
	$(BIN)/python -m tests.benchmarks.schedule --iterations 500
	$(BIN)/python -m tests.benchmarks.checkpoint

# Measures the table in docs/results.md for nine minutes. Repeat it until every cell is measured.
# M3D_DATA names a folder with mnist and cifar10.
reproduce: $(INSTALLED)-test
	$(BIN)/python -m tests.reproduce --minutes 9

# Makes the HTML pages and looks at them in Chromium: messages, requests, width, keyboard, axe. Needs chromium, node and npm.
pages: $(INSTALLED)-test
	$(BIN)/python -m tests.pages

lint: $(INSTALLED)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

contracts: $(INSTALLED)-test
	$(BIN)/lint-imports --no-cache

types: $(INSTALLED)-test
	$(BIN)/pyright

format: $(INSTALLED)-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site of the documentation in build/site; any warning is an error. Nothing is fetched.
docs: $(INSTALLED)-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Pins the installed versions, with which the tests should have passed.
constraints: $(INSTALLED)-test
	$(BIN)/python -m tests.supply.constraints

# Known vulnerabilities of the pinned packages, and their bill of materials in dist/sbom.cdx.json. Needs the network.
audit: $(AUDIT)/.installed
	$(PYTHON) -m tests.supply.audit --tools $(AUDIT)/bin --constraints constraints.txt --out dist/sbom.cdx.json

# Whether the tag of the image's base still has the pinned digest. Needs docker and the registry; edit the Dockerfile if not.
image-digest:
	@pinned=$$(sed -n 's/^FROM //p' cluster/deploy/Dockerfile); \
	current=$$(docker buildx imagetools inspect "$${pinned%@*}" --format '{{.Manifest.Digest}}') || exit 1; \
	echo "pinned  $${pinned#*@}"; echo "current $$current"; test "$${pinned#*@}" = "$$current"

$(AUDIT)/.installed:
	$(PYTHON) -m venv --clear $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet "pip-audit>=2.7" "cyclonedx-bom>=5"
	touch $@

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(INSTALLED): $(VENV)/.created pyproject.toml $(CONSTRAINTS)
	$(INSTALL) --editable ".[all]"
	rm -f $(VENV)/.installed*
	touch $@

$(INSTALLED)-test: $(VENV)/.created pyproject.toml $(CONSTRAINTS)
	$(INSTALL) --editable ".[test,docs,examples]"
	rm -f $(VENV)/.installed*
	touch $@ $(INSTALLED)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist *.egg-info
