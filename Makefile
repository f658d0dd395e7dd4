# aikit: everything runs from .venv, which is built here when it is missing or out of date.
# Nothing else is needed: no system package, no download but pip's.
#   make tour PYTHON=python3.12     another interpreter (3.11, 3.12 or 3.13)
#   make test ARGS="-k setup"       more arguments for pytest, `aikit tour` or `aikit demo`
#   make venv PIP_ARGS="..."        more arguments for pip (an index with another torch build, say)

PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.aikit-installed

.DEFAULT_GOAL := help
.PHONY: help venv tour test demo clean

help:  ## say what can be made
	@grep -E '^[a-z]+: .*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /|/' \
		| awk -F'|' '{printf "  make %-6s %s\n", $$1, $$2}'

venv: $(STAMP)  ## build .venv (all later commands do it by themselves)

# The stamp is newer than both files only after a complete install: a broken one starts again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "aikit needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is not one of them."; \
		echo "Name one: make $(or $(MAKECMDGOALS),venv) PYTHON=python3.12"; exit 1; }
	@echo "== 1/3 making .venv with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "No venv could be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "== 2/3 installing torch, the largest part"
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt torch==2.13.0
	@echo "== 3/3 installing aikit and what it needs, in the tested versions"
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[notebooks,demo,test]'
	@touch $@

tour: $(STAMP)  ## run every notebook and write build/tour/index.html
	$(BIN)/aikit tour $(ARGS)

test: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest $(ARGS)

demo: $(STAMP)  ## open the live microphone page
	$(BIN)/aikit demo $(ARGS)

clean:  ## remove what was built, but neither .venv nor your runs/
	rm -rf build .pytest_cache .hypothesis *.egg-info
	find aikit tests notebooks docs \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-prune -exec rm -rf {} + 2>/dev/null || true
