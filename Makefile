# Fast-SCNN. `make help` lists the targets; they need make and Python 3.11 or newer, lint needs git too.
#
# The first call makes an environment in VENV and installs requirements.lock there (Linux x86-64, Python 3.11 to 3.13)
# or, on any other machine, the ranges of pyproject.toml. An interrupted install starts afresh at the next call.
# make VENV=DIR takes another environment, make PYTHON=FILE another interpreter.

VENV ?= .venv
PYTHON ?= python3.11 python3.12 python3.13 python3 python
ARGS ?=

.PHONY: help train test coverage lint docs docs-links docs-test dist setup lock

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /make \1 - /p' Makefile

train: setup  ## train on the synthetic streets; ARGS="experiment=fine_only" goes to src/train.py
	$(VENV)/bin/python src/train.py $(ARGS)

test: setup  ## run the tests, one process a core; ARGS="-m slow" goes to pytest
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(ARGS)

coverage: setup  ## run the tests, and count the lines of src/fastscnn that they reach: at least 90 %
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --cov $(ARGS)

lint: setup  ## run the hooks of .pre-commit-config.yaml on every tracked file
	PATH="$(abspath $(VENV))/bin:$$PATH" pre-commit run --all-files $(ARGS)

docs: setup  ## build the pages of docs/ into docs/_build/html; a warning or a dead link fails
	@$(VENV)/bin/python -m sphinx -E -W --keep-going -n -q -b html $(ARGS) docs docs/_build/html >docs/_build.log 2>&1 || { \
	  echo "The pages of docs/ do not build without a warning: each line below names a file, its line and what to mend." >&2; \
	  cat docs/_build.log >&2; exit 1; }
	@rm docs/_build.log
	@echo "The pages: docs/_build/html/index.html"

docs-links: setup  ## follow every link of docs/ to other sites (needs a network)
	@$(VENV)/bin/python -m sphinx -q -b linkcheck $(ARGS) docs docs/_build/links || { \
	  echo "Some links of docs/ lead nowhere, or there is no network: docs/_build/links/output.txt has them all." >&2; exit 1; }

docs-test: setup  ## run the commands of README and docs/ that take long; make test runs the others
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m slow tests/integration/test_pages.py $(ARGS)

dist: setup  ## build the wheel into dist/
	$(VENV)/bin/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

setup:  ## make the environment and install into it
	@mkdir -p $(VENV)
	@$(if $(shell command -v flock 2>/dev/null),flock $(VENV)/.lock) sh -c "$$SETUP"

lock:  ## write requirements.lock anew from the ranges of pyproject.toml (on Linux x86-64, Python 3.11)
	@sh -c "$$LOCK"

define FIND_PYTHON
for python in $(PYTHON) none; do
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done
if [ "$$python" = none ]; then
  echo "No Python 3.11 or newer among: $(PYTHON). Install one, or name one with make PYTHON=FILE." >&2; exit 1
elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "$$python cannot make environments: install its venv package (Debian, Ubuntu: apt install $$("$$python" -c \
    'import sys; print("python%d.%d-venv" % sys.version_info[:2])')) or name another with make PYTHON=FILE." >&2; exit 1
fi
endef

# .unfinished marks an environment whose packages may be half there, .installed one that is done. Both keep the time at
# which the install began: an edit of the two requirement files during the install is newer, and is installed next time.
define SETUP
set -e
venv="$(VENV)"
[ "$$venv/.installed" -nt requirements.lock ] && [ "$$venv/.installed" -nt pyproject.toml ] && exit
if [ -e "$$venv/.unfinished" ] || ! "$$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  $(FIND_PYTHON)
  if [ -e "$$venv/.unfinished" ] || [ -e "$$venv/pyvenv.cfg" ]; then
    for part in bin include lib lib64 share pyvenv.cfg; do rm -rf "$$venv/$$part"; done
  fi
  touch "$$venv/.unfinished"
  "$$python" -m venv "$$venv"
fi
echo "Installing into $(VENV): 7 GB and a few minutes the first time, most of them without a word here."
rm -f "$$venv/.installed"
touch "$$venv/.unfinished"
echo '*' > "$$venv/.gitignore"
pip() { "$$venv/bin/python" -m pip -qq --disable-pip-version-check "$$@"; }
machine='import platform as p, sys; print(p.system(), p.machine(), sys.version_info < (3, 14))'
if [ "$$("$$venv/bin/python" -c "$$machine")" = "Linux x86_64 True" ]; then
  pip install -r requirements.lock
else
  pip install -e '.[dev]'
fi
mv "$$venv/.unfinished" "$$venv/.complete"
pip install --no-deps --no-build-isolation -e .
mv "$$venv/.complete" "$$venv/.installed"
endef
export SETUP

define LOCK
set -e
$(FIND_PYTHON)
venv=$$(mktemp -d)
trap 'rm -rf "$$venv"' EXIT
"$$python" -m venv "$$venv"
"$$venv/bin/python" -m pip -qq install -e '.[dev]'
{
  echo "# Every version of a working install on Linux x86-64 with $$("$$python" -V): pip freeze of an environment that holds what"
  echo "# pyproject.toml and its dev extra need, and nothing else. make lock renews it."
  "$$venv/bin/python" -m pip freeze --all --exclude pip --exclude-editable |
    sed -E ':again; s/^([^=]*)[._]/\1-/; t again; s/^[^=]*/\L&/' | LC_ALL=C sort -t= -k1,1
} > "$$venv/requirements.lock"
cp "$$venv/requirements.lock" requirements.lock
endef
export LOCK
