# The developer's targets. `make help` lists them.
PY := .venv/bin/python

.PHONY: help check check-static fmt lint types layers unit test fuzz bench clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: *[^#]*## */\t/' | expand -t 16

check: check-static unit ## format, lint, types, layers and unit tests; under a minute

check-static: lint types layers ## everything of check but the tests

fmt:             ## mend what the linter can mend by itself
	.venv/bin/ruff check --fix src tests bench docs examples

lint:            ## format and lint
	.venv/bin/ruff check src tests bench docs examples

types:           ## mypy, strict, on all of corten/
	.venv/bin/mypy

layers:          ## the walls of the design
	.venv/bin/lint-imports

unit:            ## tests that need no root and no kernel
	$(PY) -m pytest -q tests/unit tests/budget

test:            ## all tests (root)
	./test.sh

fuzz:            ## readers of what strangers write, by coverage: make fuzz SECONDS=60 (pip install atheris)
	mkdir -p .fuzz && cd .fuzz && ../$(PY) ../tests/fuzz/readers.py -max_total_time=$(or $(SECONDS),60) -timeout=10 .

bench:           ## ratios against another engine: make bench ENGINE=unix:///var/run/docker.sock
	$(PY) bench/run.py --engine other=$(ENGINE) --engine corten=unix:///run/corten/corten.sock

clean:           ## what tools left in the tree
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
