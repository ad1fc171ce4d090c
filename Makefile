# make demo   the whole job on the models that ship inside: results/demo/
# make test   ruff, mypy and every test; prints the times of the parts
# make coverage   which lines and branches the tests run, in every process that they start: results/coverage/html/
# make bench  measures against the plain loop; BENCH=--quick only tries whether it runs, BENCH=batch one part
# make gpu    what only a GPU can show; GPU="plain split" some parts, PYTHON=python3 installs nothing and uses that Python
# Each makes .venv first; each step is skipped when nothing changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install demo test check coverage bench gpu chaos overload soak hostile cluster-test format clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; choose one with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,batch,constrained,heif,otel]'
	@touch $@

demo: install
	$(BIN)/genseg demo --output results/demo

test: check
	$(BIN)/python -m tests.parts

coverage: install
	rm -rf results/coverage
	mkdir -p results/coverage
	@PYTHONPATH=$(CURDIR) __RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR=tests.keep_coverage.save_often \
	    $(BIN)/coverage run -m tests.parts; tests=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage html --quiet && $(BIN)/coverage report && exit $$tests

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m tests.benchmarks $(BENCH)

# A PYTHON that is given is used as it is.
ifeq ($(origin PYTHON),file)
gpu: install
	$(BIN)/python -m tests.gpu $(GPU)
else
gpu:
	$(PYTHON) -m tests.gpu $(GPU)
endif

chaos overload soak: install
	$(BIN)/python -m tests.stress.$@

hostile: install
	$(BIN)/python -m tests.hostile

cluster-test: install
	$(BIN)/python -m tests.cluster

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) results build dist *.egg-info
