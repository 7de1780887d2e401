# make repro             set up, run the pipeline on the data that params.yaml names (the built-in sample), show the result
# make repro DATA=fer2013    the same on real data, as an experiment ($FER2013 or Kaggle); DATA=<path or https address>: on faces of
#                        your own (docs/data.md);
#                        params.yaml then names that data; back: make repro DATA=sample
# make test              set up, run the quick tests; `make test-slow` runs the others
# make verify            the sample pipeline four times from scratch, every output compared; make audit: known vulnerabilities of the packages
# make bench             what training costs here, the texts' way and ours (4 minutes, needs FER2013; LONG=1: an hour)
# make ablation          what each ingredient of the speedrun buys, and a few more would (one to two hours, needs FER2013; goes on where it was broken off)
# make notebooks        the notebooks run anew on the sample's result, their outputs kept in them
# make doctor            what a bug report needs, and the usual troubles
# make pull              results from DVC's remote into this folder; what would write outside it is refused (docs/group.md)
# make reset             params.yaml and the result back to the last commit, after experiments
# make demo              a page on this machine for photos and the webcam: http://127.0.0.1:7860
# make demo-static       that page as files for any web server, everything in the browser (needs npm)
# make ui                MLflow's page over all runs;  make show: all experiments, side by side

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
export PYTHONWARNINGS := ignore::DeprecationWarning,ignore::FutureWarning
unexport PYTHONPATH
# logical: `auto` counts physical cores, of which two threads of a virtual machine may be one
PYTEST = .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile
INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes

repro: commit .venv/core
	@.venv/bin/python -m ferlab.dvc_files
ifdef DATA
	@$(if $(filter environment,$(origin DATA)),echo "DATA=$$DATA is set in this shell; unset DATA for the data of params.yaml")
	@.venv/bin/python -m ferlab try --data "$$DATA"
else
	@.venv/bin/python -m ferlab check
	@.venv/bin/dvc repro
endif
	@.venv/bin/python -m ferlab show

test: .venv/dev
	@$(PYTEST)

test-slow: .venv/dev
	@$(PYTEST) -m slow

lint: .venv/dev
	@.venv/bin/ruff check .

demo: .venv/core
	@.venv/bin/python -m ferlab demo

demo-static: .venv/core
	@.venv/bin/python -m ferlab demo-static

ui: .venv/core
	@.venv/bin/python -m ferlab ui

show: commit .venv/core
	@.venv/bin/python -m ferlab experiments

pull: .venv/core
	@.venv/bin/dvc fetch
	@.venv/bin/python -m ferlab.dvc_files
	@.venv/bin/dvc checkout

reset: .venv/core
	@.venv/bin/python -m ferlab.dvc_files
	@.venv/bin/python -m ferlab reset

doctor: .venv/core
	@.venv/bin/python -m ferlab doctor

verify: commit .venv/core
	@.venv/bin/python -m ferlab verify

bench: .venv/core
	@.venv/bin/python -m benchmarks.bench $(if $(LONG),--long)

ablation: .venv/core
	@.venv/bin/python -m benchmarks.ablation

notebooks: .venv/dev
	@.venv/bin/python notebooks/execute.py

audit: .venv/dev
	@.venv/bin/python tests/audit.py

lock:
	uv lock -q
	uv export --frozen --no-emit-project --no-annotate --no-header -q -o requirements.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q requirements-dev.in -o requirements-dev.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q requirements-sweep.in -o requirements-sweep.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q requirements-use.in -o requirements-use.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q requirements-scale.in -o requirements-scale.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q requirements-predict.in -o requirements-predict.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q requirements-gpu.in -o requirements-gpu.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q requirements-transfer.in -o requirements-transfer.txt
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -q benchmarks/peers/fer/requirements.in -o benchmarks/peers/fer/requirements.txt

commit:
	@git rev-parse --quiet --verify HEAD >/dev/null 2>&1 || { LC_ALL=C git log -1 2>&1 | grep -A4 dubious >&2 || echo "error: this folder is no Git repository with a commit; DVC needs one: git init && git add -A && git commit -m start" >&2; exit 1; }

.venv/core: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "error: $(PYTHON) is not Python 3.11 to 3.13; name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "installing the pinned packages into .venv (once, about 3 GB)"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -r requirements.txt
	@touch $@

.venv/dev: .venv/core requirements-dev.txt
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

.PHONY: repro test test-slow lint demo demo-static ui show pull reset doctor verify bench ablation audit notebooks lock commit
