# Everything here works from a fresh clone: the first target to run makes .venv (Python >= 3.11; PYTHON=python3.12 chooses another).
PYTHON ?= python3
WORKERS ?= $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())")
BIN := .venv/bin
INSTALLED := .venv/.installed
SELECT := not browser and not real_data and not cuda
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest

.PHONY: help install demo test test-fast test-browser lab bench docs screenshots clean

help:
	@echo "make install       .venv with all that is needed; then: . .venv/bin/activate"
	@echo "make demo          the whole tour on miniworld: stages, notebooks, reports/demo/index.html (second run: seconds)"
	@echo "make lab           JupyterLab on notebook 00, in copies of the notebooks (lab/)"
	@echo "make test          ruff, mypy, every test, the notebooks' checked outputs"
	@echo "make test-fast     ruff, mypy and the quick tests"
	@echo "make test-browser  the workbench, every report page and, once built, the docs in Chromium"
	@echo "make bench         what our way costs against the published way and the least any needs, into reports/bench/"
	@echo "make docs          a page a concept from the docstrings, into build/docs/index.html"
	@echo "make screenshots   every report page, guide and panel, light and dark, into build/screenshots/"
	@echo "make clean         removes caches and builds; keeps .venv, data/cache and reports"

install: $(INSTALLED)
	@echo "Now: . .venv/bin/activate"

demo: $(INSTALLED)
	$(BIN)/bistil demo --workers $(WORKERS)

test: $(INSTALLED) lint
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "$(SELECT)" tests
	@# the tests above ran the notebooks on a small setting; where the demo's artefacts are, also as they stand
	test ! -f reports/demo/index.html || $(PYTEST) --nbval-lax --nbval-cell-timeout=600 notebooks

test-fast: $(INSTALLED) lint
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "$(SELECT) and not slow" tests

test-browser: $(INSTALLED)
	$(PYTEST) -m browser tests/browser

.PHONY: lint
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

lab: $(INSTALLED)
	@# copies, so that looking leaves the checkout as it is; from lab/ the notebooks find data/ and reports/ as from notebooks/
	mkdir -p lab && cp -n notebooks/*.ipynb lab/ || true
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/lab/$(notdir $(wildcard notebooks/00_*.ipynb))

bench: $(INSTALLED)
	$(BIN)/bistil bench

docs: $(INSTALLED)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: docs
	$(BIN)/python tests/browser/chrome.py build/screenshots
	BISTIL_SCREENSHOTS=$(CURDIR)/build/screenshots $(PYTEST) -m browser tests/browser/test_workbench.py

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis reports/demo/notebooks
	find bistil tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

# torch comes first and alone, so that a CPU build at hand (an index or a folder of wheels named to pip) is taken as it is.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'bistil needs Python 3.11 or newer; name one with PYTHON=...')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -c constraints.txt -e ".[lab,batch,slurm,dev,peers,onnx,tensorboard]"
	@touch $@
