# The two commands of a fresh machine, and what developers run by name. Without make: python3 scripts/bootstrap.py demo
PYTHON ?= python3
ARGS ?=

.PHONY: help demo test lint docs lock
.DEFAULT_GOAL := help

help:
	@echo "make demo [ARGS=--no-serve]   take one application through all eleven stages, then serve it"
	@echo "make test [ARGS=tests/house]  every check that a change must pass"
	@echo "make lint                     the quick part of the checks"
	@echo "make docs                     write the generated parts of docs/"
	@echo "make lock [ARGS=--upgrade]    resolve requirements/*.lock anew"

demo:
	@$(PYTHON) scripts/bootstrap.py demo $(ARGS)

test:
	@$(PYTHON) scripts/bootstrap.py test $(ARGS)

lint:
	@$(PYTHON) scripts/bootstrap.py test --only lint $(ARGS)

docs:
	@.venv/bin/python scripts/write_docs.py

lock:
	@$(PYTHON) scripts/lock.py $(ARGS)
