# make demo    installs tfdet into .venv, makes a small data set, trains, evaluates, exports, draws detections
# make test    installs and runs the tests;  make test-slow runs those that train for minutes
# make ops     builds the custom ops with Bazel and installs them (CUDA=1: with GPU kernels); demo and test do it by
#              themselves where Bazel is installed, and go on with TensorFlow's own ops where it is not
# make fuzz    random calls of the custom ops' CPU kernels under AddressSanitizer (CALLS=20000 of each)
# make learn   trains a small detector of every family on drawn shapes and prints what each learnt (an hour or two)
# make notebook  runs docs/quickstart.ipynb from an empty folder; NOTEBOOK_FLAGS=--write keeps its outputs in the file
# make docs    the documentation as a site, in build/site
# make lint    ruff, and mypy on what users call;  make clean removes what these made
#
# PYTHON=...       the interpreter of the virtual environment (3.10 to 3.12), looked for when not given
# TEST_WORKERS=2   processes that share the tests, of 1 to 3 GB each
# DEMO_STEPS=...   training steps of the demo, when not those of gin_configs/demo_shapes.gin

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo install ops try-ops fuzz test test-slow learn notebook docs lint clean

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# TensorFlow sees GPUs through libraries of its extra alone.
EXTRAS := test$(if $(shell command -v nvidia-smi),$(shell echo ,cuda))
OPS := tfdet/ops/lib/_tfdet_ops.so
OPS_SOURCES := $(wildcard custom_ops/BUILD custom_ops/kernels/* custom_ops/tf/* third_party/*/*.bzl .bazelrc)
CUDA ?=
TEST_WORKERS ?= 2
DEMO_DIR ?= demo
DEMO_STEPS ?=
DEMO_CONFIG ?= gin_configs/demo_shapes.gin

SUITABLE := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))
# The first that runs, is of a suitable version and can make virtual environments; else the first of a suitable
# version, so that the message below can say what it lacks.
find_python = for python in python3.12 python3.11 python3.10 python3; do \
	if $$python -c '$(SUITABLE)' 2>/dev/null && $$python -c '$(1)' 2>/dev/null; then echo $$python; break; fi; done
PYTHON ?= $(or $(shell $(call find_python,import ensurepip)),$(shell $(call find_python,pass)))

demo: $(STAMP) try-ops
	@if [ ! -f $(DEMO_DIR)/data/val/manifest.json ]; then \
		echo "== data set: drawn shapes, written as TFRecords"; \
		$(BIN)/tfdet make_shapes --output=$(DEMO_DIR)/data --overwrite; fi
	@echo "== train (interrupted, make demo continues)"
	@$(BIN)/tfdet train --gin_file=$(DEMO_CONFIG) --model_dir=$(DEMO_DIR)/run \
		--train_data=$(DEMO_DIR)/data/train --eval_data=$(DEMO_DIR)/data/val \
		$(if $(DEMO_STEPS),--gin_param="Trainer.steps = $(DEMO_STEPS)")
	@echo "== evaluate"
	@$(BIN)/tfdet evaluate --model_dir=$(DEMO_DIR)/run --eval_data=$(DEMO_DIR)/data/val
	@echo "== export and verify"
	@rm -rf $(DEMO_DIR)/saved_model
	@$(BIN)/tfdet export --model_dir=$(DEMO_DIR)/run --eval_data=$(DEMO_DIR)/data/val --output=$(DEMO_DIR)/saved_model
	@echo "== predict"
	@$(BIN)/tfdet predict --saved_model=$(DEMO_DIR)/saved_model --output=$(DEMO_DIR)/pictures $(DEMO_DIR)/data/pictures
	@picture=$$(find $(DEMO_DIR)/pictures -name '*.jpg' -o -name '*.png' | sort | head -1); \
		if [ -z "$$picture" ]; then echo "no picture in $(DEMO_DIR)/pictures" >&2; exit 1; fi; \
		echo; echo "a picture with detections:  $(CURDIR)/$$picture"; \
		echo "the run's curves:           $(BIN)/tensorboard --logdir=$(DEMO_DIR)/run"

install: $(STAMP)

ops: $(STAMP)
	@PYTHON_BIN_PATH=$(abspath $(BIN)/python) tools/build_ops.sh $(if $(CUDA),--cuda)

# Builds the ops where that is possible and needed; says what is the case; never fails.
try-ops: $(STAMP)
	@if [ "$${TFDET_OPS:-auto}" = python ]; then echo "custom ops: switched off by TFDET_OPS=python"; \
	elif [ -z "$$(find $(OPS_SOURCES) -newer $(OPS) 2>&1)" ]; then echo "custom ops: $(OPS)"; \
	elif ! command -v bazel >/dev/null; then \
		echo "custom ops: not built, Bazel is not installed (\`make ops\` says how); TensorFlow's own ops are used"; \
	else PYTHON_BIN_PATH=$(abspath $(BIN)/python) tools/build_ops.sh || \
		echo "custom ops: not built, see above; TensorFlow's own ops are used"; fi

$(STAMP): setup.py pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "tfdet needs Python 3.10, 3.11 or 3.12 and found none." >&2; \
		echo "Debian, Ubuntu: sudo apt install python3 python3-venv. Or name one: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; fi
	@$(PYTHON) -c '$(SUITABLE)' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1 || echo absent); tfdet needs 3.10, 3.11 or 3.12: make PYTHON=..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[$(EXTRAS)]'
	touch $@

# In the order of the files: xdist would take those with the most tests first, and end with the few that take minutes.
test: $(STAMP) try-ops
	$(BIN)/python -m pytest -q -m "not slow" -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP) try-ops
	$(BIN)/python -m pytest -q -m slow

# LEARN="retina cascade": these families; LEARN_STEPS=10: a short form, which shows that they run; LEARN_JOBS=2: two at
# once
LEARN ?=
LEARN_STEPS ?=
LEARN_JOBS ?= 1
LEARN_DIR ?= runs/learn

learn: $(STAMP) try-ops
	$(BIN)/python scripts/learn.py $(LEARN) --folder=$(LEARN_DIR) --jobs=$(LEARN_JOBS) $(if $(LEARN_STEPS),--steps=$(LEARN_STEPS))

CALLS ?= 20000
FUZZ_FLAGS := -std=c++17 -O1 -g -fno-math-errno -fno-trapping-math -ffp-contract=off -fsanitize=address,undefined \
	-fno-sanitize-recover=all

fuzz: build/kernels_fuzz
	$< $(CALLS) $(SEED)

build/kernels_fuzz: $(wildcard custom_ops/fuzz/* custom_ops/kernels/* custom_ops/c_api/threads.h)
	@mkdir -p build
	g++ $(FUZZ_FLAGS) -I. custom_ops/fuzz/*.cc custom_ops/kernels/*_cpu.cc -o $@ -pthread

NOTEBOOK_FLAGS ?=

notebook: $(STAMP) try-ops
	$(BIN)/python tools/run_notebook.py docs/quickstart.ipynb $(NOTEBOOK_FLAGS)

docs: $(STAMP)
	@$(BIN)/python -c 'import material' 2>/dev/null || $(BIN)/pip install -q '.[docs]' 2>/dev/null || \
		{ echo "mkdocs-material could not be installed: pip install mkdocs-material" >&2; exit 1; }
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "the site: $(CURDIR)/build/site/index.html"
	@echo "its search needs a server: $(BIN)/python -m http.server --directory build/site"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO_DIR) $(OPS) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
