# make demo          see it work: a stand-in for Qwen, a dozen conversations, what was decided and why   (ARGS=--serve keeps it up)
# make test          all tests                                                                          (ARGS="tests/wire -x")
# make lint          ruff and mypy --strict
# make bench         what it costs, beside a direct call and a bare pass-through                        (ARGS=--quick)
# make soak          minutes of mixed load, with clients that leave and policies that change: does it grow?  (MINUTES=10)
# make docs          the generated pages in docs/ and of /docs
# make policy        check and test the policy that ships
# make mutants       break the code in the ways that tests/mutants.yaml lists: do the tests notice?     (ARGS="--only wire")
# make fuzz          mutated inputs against every parser and reader, each with a law that must hold     (MINUTES=10 ARGS="--only policy")
# make eval          the classifiers that ship, measured on the test texts in build/corpus               (ARGS="classifiers/ngram")
# make install       the virtual environment that all of these use; made by itself when it is needed        (EXTRAS=transformers,train)

VENV := .venv
PYTHON ?= python3
ARGS ?=
MINUTES ?= 10
EXTRAS ?=
STAMP := $(VENV)/.installed$(if $(EXTRAS),-$(EXTRAS))

.PHONY: help demo test lint bench soak docs policy mutants fuzz eval install clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

$(STAMP): pyproject.toml constraints.txt scripts/install
	@echo "installing into $(VENV) (once, some minutes) …" >&2
	@PYTHON="$(PYTHON)" scripts/install --dev $(if $(EXTRAS),--extras $(EXTRAS)) $(VENV)
	@touch $(VENV)/.installed $@

install: $(STAMP)

demo: $(STAMP)
	@$(VENV)/bin/moderation demo $(ARGS)

test: $(STAMP)
	@$(VENV)/bin/python -m pytest $(ARGS)

lint: $(STAMP)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

bench: $(STAMP)
	@$(VENV)/bin/python -m bench.run $(ARGS)

soak: $(STAMP)
	@$(VENV)/bin/python -m bench.soak --minutes $(MINUTES) $(ARGS)

docs: $(STAMP)
	@$(VENV)/bin/python -m moderation.docs

policy: $(STAMP)
	@$(VENV)/bin/moderation policy check --strict policies/default.yaml
	@$(VENV)/bin/moderation policy test --models policies/default.yaml

mutants: $(STAMP)
	@$(VENV)/bin/python scripts/mutants $(ARGS)

fuzz: $(STAMP)
	@$(VENV)/bin/python -m fuzz.run --minutes $(MINUTES) $(ARGS)

eval: $(STAMP)
	@$(VENV)/bin/python -m classifiers.train.evaluate $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build moderation-data
