# make demo    a pipe of two filters over 200 articles, killed half way and run again
# make test    the tests
# make torture kill pipes at random and check the books; ROUNDS=2000 for a long one
# make bench   what stopping early saves; llm-map beside a bare loop (20 minutes; SPEED=--quick)
# make check   all of this: lint, types, manual, tests and torture; what has to be green
# make prices  the table of prices, from the genai-prices that the tests have
# make install PREFIX=/usr/local

PYTHON ?= python3
PREFIX ?= /usr/local
ROUNDS = 100
SEED = 1
SPEED =
VENV = .venv
BIN = $(VENV)/bin
HOME_OF_IT = $(DESTDIR)$(PREFIX)/lib/llmstream

.PHONY: demo test check lint torture bench prices install uninstall clean

demo: $(VENV)/run
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo

test: $(VENV)/test
	$(BIN)/python -m pytest -n auto --dist loadfile

check: lint test torture

# Seeded: ROUNDS kills, beginning with SEED.
torture: $(VENV)/test
	$(BIN)/python tests/torture.py $(ROUNDS) $(SEED)

bench: $(VENV)/run
	$(BIN)/python tests/bench/votes.py
	$(BIN)/python tests/bench/speed.py $(SPEED)

prices: $(VENV)/test
	$(BIN)/python tests/make_price_table.py

lint: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "llmstream needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# pip says much that a reader of the demo does not need; what goes wrong it says all the same.
$(VENV)/run: $(VENV)/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/test: $(VENV)/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/run

# An environment of its own, and links to its executables and pages.
install:
	$(PYTHON) -m venv "$(HOME_OF_IT)"
	"$(HOME_OF_IT)/bin/python" -m pip install -q --disable-pip-version-check .
	mkdir -p "$(DESTDIR)$(PREFIX)/bin"
	for tool in bin/*; do ln -sf "$(PREFIX)/lib/llmstream/$$tool" "$(DESTDIR)$(PREFIX)/bin/"; done
	for page in man/*; do section=man$${page##*.}; mkdir -p "$(DESTDIR)$(PREFIX)/share/man/$$section" && \
		cp "$$page" "$(DESTDIR)$(PREFIX)/share/man/$$section/"; done

uninstall:
	for tool in bin/*; do rm -f "$(DESTDIR)$(PREFIX)/$$tool"; done
	for page in man/*; do rm -f "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done
	rm -rf "$(HOME_OF_IT)"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
