# make run                                                     the whole workflow on phantom data
# make run CONFIG=config/folder.yaml ROOT=path/to/tidy/folder   the same on your own images
# make test                                                    all tests, two files at a time (WORKERS=4: four; up to 12 GiB each)
# make encoder NAME=my_encoder                                 a new encoders/my_encoder.py from the template
CONFIG ?= config/config.yaml
ROOT ?=
CORES ?= all
WORKERS ?= 2
DIRECTORY ?= .
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
# --directory leads elsewhere, so the root is made absolute; whether it is there is for the configuration to say
ROOT_OPTION := $(if $(ROOT),--config root="$(if $(filter /%,$(firstword $(ROOT))),$(ROOT),$(CURDIR)/$(ROOT))")

.PHONY: run test lint doctor encoder environment

environment: $(VENV)/.installed

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "radbench needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

run: environment
	@{ mkdir -p "$(DIRECTORY)" && test -w "$(DIRECTORY)"; } 2>/dev/null || { echo "DIRECTORY=$(DIRECTORY): results cannot be written there;" \
	  "name a folder that you may write to: make run DIRECTORY=path/to/folder" >&2; exit 2; }
	PATH="$(BIN):$$PATH" snakemake --cores $(CORES) --rerun-incomplete --configfile "$(CONFIG)" --directory "$(DIRECTORY)" $(ROOT_OPTION)
	@echo; cd "$(DIRECTORY)" && sed -n '1,24p' results/tables/table3.md && echo && \
	  echo "Tables: $$PWD/results/tables/" && echo "Report: $$PWD/results/report/index.html"

test: environment
	PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST)

lint: environment
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && PATH="$(BIN):$$PATH" lint-imports && $(BIN)/snakefmt -l 140 --check Snakefile

doctor: environment
	PATH="$(BIN):$$PATH" python -m radbench.doctor --config "$(CONFIG)" $(if $(ROOT),--root "$(ROOT)")

encoder: environment
	@test -n "$(NAME)" || { echo "which name? make encoder NAME=my_encoder writes encoders/my_encoder.py" >&2; exit 2; }
	PATH="$(BIN):$$PATH" python -m radbench.check --new "$(NAME)"
