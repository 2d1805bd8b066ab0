# make report   the environment, then the whole workflow on the embedded sample;
#               CONFIG=configs/coco_val2017.yaml: on another configuration
# make init     looks at your own MODEL=... IMAGES=... ANNOTATIONS=..., writes OUTPUT=mine.yaml;
#               also CONFIG=... (its mmpose config), CATEGORY=..., DETECTOR=...
# make doctor   what runs on this machine, and what to install or fix
# make bundle   what the report recommends, for a machine without this project; also CONFIG=...
# make test     the tests
# make test-slow  those that take minutes by nature: fresh environments, kills, COCO's downloads, the site
# make lint     formatters, linters, the type checker and the directions of imports, without changes
# make test-browser  the report's page in Debian's chromium
# make test-slurm  the workflow on a Slurm cluster that it starts; needs root and Slurm's packages
# make cluster  the environment with Snakemake's plugins for clusters
# make format   what the formatters would change
# make docs     the pages that are generated from the code, and the site in build/site
# make bench    speed beside peers (some minutes, on a quiet machine); BENCH="--memory --report"
# make gpu      the packages of NVIDIA's GPUs, then every engine and precision on this one side by side
# make clean    removes what was made; RUN=name: what one run made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: report init doctor gpu bundle test test-slow test-browser test-slurm cluster lint format docs bench clean

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# Nothing is compiled: wheels only, but for one package of pure Python that has none.
WHEELS := --only-binary=:all: --no-binary=connection-pool
PYTHON_FILES := workflow_scripts tools tests docs
SNAKEMAKE_FILES := Snakefile rules

report: $(VENV)/run.stamp
	@$(BIN)/snakemake --cores $(CORES) report $(if $(CONFIG),--configfile $(CONFIG))
	@results=$$($(BIN)/python -m hrnetpose.config_text config.yaml $(CONFIG)) && echo && cat "$$results/summary.txt" \
		&& echo && echo "report: $(CURDIR)/$$results/report.html"

INIT_FLAGS = $(foreach name,MODEL CONFIG IMAGES ANNOTATIONS CATEGORY DETECTOR OUTPUT,$(if $($(name)),\
	--$(shell echo $(name) | tr A-Z a-z) "$$$(name)"))
init: $(VENV)/run.stamp
	@$(BIN)/python -m hrnetpose.init $(INIT_FLAGS)

doctor: $(VENV)/run.stamp
	@$(BIN)/python -m hrnetpose.doctor

bundle: $(VENV)/run.stamp
	@$(BIN)/snakemake --cores $(CORES) report $(if $(CONFIG),--configfile $(CONFIG))
	@results=$$($(BIN)/python -m hrnetpose.config_text config.yaml $(CONFIG)) \
		&& targets=$$($(BIN)/python -m hrnetpose.bundle.recommended "$$results") \
		&& $(BIN)/snakemake --cores $(CORES) $(if $(CONFIG),--configfile $(CONFIG)) -- $$targets

# What cannot run is a row that says why; the table is printed all the same.
gpu: $(VENV)/gpu.stamp
	@$(BIN)/snakemake --cores $(CORES) --keep-going report --configfile configs/gpu.yaml || failed=$$?; \
	cat results/gpu/summary.txt; exit $${failed:-0}

WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: $(VENV)/develop.stamp
	$(BIN)/python -m pytest $(WORKERS)

test-slow: $(VENV)/develop.stamp
	$(BIN)/python -m pytest $(WORKERS) -m slow --durations 10

test-browser: $(VENV)/develop.stamp
	$(BIN)/python -m pytest -m browser tests/unit/report

test-slurm: $(VENV)/develop.stamp $(VENV)/cluster.stamp
	$(BIN)/python -m pytest -s tests/slurm

cluster: $(VENV)/cluster.stamp

lint: $(VENV)/develop.stamp
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/snakefmt --check $(SNAKEMAKE_FILES)
	$(BIN)/snakemake --lint

format: $(VENV)/develop.stamp
	$(BIN)/ruff check --fix $(PYTHON_FILES)
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/snakefmt $(SNAKEMAKE_FILES)

docs: $(VENV)/develop.stamp
	$(BIN)/python -m hrnetpose.reference
	$(BIN)/python -m hrnetpose.models.keys > docs/model_keys.md
	mkdir -p build
	$(BIN)/snakemake --rulegraph --configfile docs/stages.yaml > build/stages.dot
	$(BIN)/python tools/draw_stages.py --graph build/stages.dot --output docs/stages.svg
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/site
	@echo "the site: $(CURDIR)/build/site/index.html"

bench: $(VENV)/run.stamp
	$(BIN)/python tools/bench/bench.py --output results/bench.json $(BENCH)

# A run's own files lie in folders of its name; models, datasets and crops are shared.  An empty RUN
# is a mistake: without one everything goes.
clean:
ifneq ($(origin RUN),undefined)
	@case "$$RUN" in ""|bundles|*[!A-Za-z0-9_.-]*|.*) echo "RUN=$$RUN: no name of a run" >&2; exit 1;; esac
	rm -rf "results/$(RUN)" "build/engines/$(RUN)" "build/predictions/$(RUN)" "build/machine/$(RUN)" "build/crops/$(RUN)" logs/*/"$(RUN)"
else
	rm -rf build logs results .snakemake
endif

# The environment is made anew when its pins change.
$(VENV)/run.stamp: envs/requirements.txt envs/requirements-mmpose.txt
	@test ! -L $(VENV) || { echo "$(VENV) is a link, and what it leads to would be emptied; make the environment there, or remove the link" >&2; exit 1; }
	@echo "making the environment in $(VENV) (a minute or two) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) $(WHEELS) -r envs/requirements.txt
	@$(PIP) --no-deps -r envs/requirements-mmpose.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/develop.stamp: $(VENV)/run.stamp envs/requirements-dev.txt
	@$(PIP) -r envs/requirements-dev.txt
	@touch $@

# ONNX Runtime for GPUs takes the place of the other, whose files are the same.
$(VENV)/gpu.stamp: $(VENV)/run.stamp envs/gpu-tensorrt.txt envs/gpu-onnxruntime.txt
	@command -v nvidia-smi >/dev/null || { echo "make gpu needs an NVIDIA driver: there is no nvidia-smi" >&2; exit 1; }
	@$(BIN)/pip uninstall --quiet --yes onnxruntime
	@$(PIP) -r envs/gpu-tensorrt.txt -r envs/gpu-onnxruntime.txt
	@touch $@

$(VENV)/cluster.stamp: $(VENV)/run.stamp envs/requirements-cluster.txt
	@$(PIP) -r envs/requirements-cluster.txt
	@touch $@
