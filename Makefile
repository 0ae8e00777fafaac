# Needs git, make and Python 3.11 or 3.12 (PYTHON=python3.12 to choose).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/run.done
	$(BIN)/maxquery demo --output demo-output $(if $(INPUT),--input "$(INPUT)")

test: $(VENV)/test.done
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/test.done
	$(BIN)/ruff check .

$(VENV)/run.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 13), "Python 3.11 or 3.12 is needed, found " + sys.version.split()[0] + "; try make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu]'
	touch $@

$(VENV)/test.done: $(VENV)/run.done
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,training,benchmark,test]'
	touch $@

clean:
	rm -rf $(VENV) demo-output
