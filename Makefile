# make book · make test — nothing else to set up. Needs Python >= 3.11; everything goes into .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: book exam test lint bench notebooks assignments address serve shots clean

book: $(READY)
	$(VENV)/bin/jupyter-book build -W -n --keep-going . || { rm -rf _build/.doctrees; exit 1; }  # or the next build would not warn again
	@echo "Open $(CURDIR)/_build/html/index.html"

# Exam questions, with and without answers, which are not part of the book: all chapters, or make exam N="ddpm sdes"
exam: $(READY)
	$(PY) book/exam/build.py $(N)

# One pytest run proves everything: laws and units, lint, the build, the pages in Chromium, every notebook of _toc.yml.
# -n 2 with one thread each: two cores, no contention, and the same sums on every machine.
test: export OMP_NUM_THREADS = 1
test: export TQDM_DISABLE = 1
test: $(READY)
	chapters=$$($(PY) book/notebooks.py nbval) && $(PY) -m pytest -q -n 2 --dist loadscope tests $$chapters

lint: $(READY)
	$(VENV)/bin/ruff check .

# Each beside its peer, in the same run, into _build/bench.txt. benchmarks/RESULTS.txt is such a file, from the machine that it names.
# The other files of benchmarks/ are the long commands behind the results in dpmlib/weights.
PEERS := ancestral solver_cost toy_ddpm training scaling nade kv_cache trajectory
bench: SHELL := bash -o pipefail
bench: export DPMLIB_QUIET = 1
bench: $(READY)
	mkdir -p _build
	($(PY) -c "from dpmlib import provenance as p; import torch; print('commit', p.commit(), '·', p.device(torch.device('cuda' if torch.cuda.is_available() else 'cpu')), '· torch', torch.__version__)"; \
	 for f in $(PEERS); do echo; echo "== $$f"; $(PY) benchmarks/$$f.py || exit 1; done) | tee _build/bench.txt

# Re-execute chapters in place: all of them, or make notebooks N="book/denoising/ddpm.ipynb"
notebooks: $(READY)
	$(PY) book/notebooks.py execute $(N)

# Student notebooks, solutions and autograders into _build/assignments/SEED. The book's own variant, 0, is also copied into its pages;
# PUBLISH=1 does that for another one.
SEED ?= 0
assignments: $(READY)
	$(PY) book/assignments/make.py --seed $(SEED) $(if $(or $(PUBLISH),$(filter 0,$(SEED))),--publish)

# Spread the repository's address from _config.yml into the set-up cells.
address: $(READY)
	$(PY) book/notebooks.py address

serve: book
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html 8000

# A picture of every page, wide and narrow, light and dark, in _build/shots.
shots: $(READY)
	mkdir -p _build/shots
	SHOTS=$(CURDIR)/_build/shots $(PY) -m pytest -q -n 2 tests/test_pages.py -k test_page

clean:
	rm -rf _build .pytest_cache .ruff_cache build *.egg-info

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -r requirements.txt
	$(PY) -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@
