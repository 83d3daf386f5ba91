# make demo       install, fetch the embedded model, answer the sample dialogues
# make test       install, run the tests that everybody runs: minutes, one start of the engine
# make test-all   those, then all that start engines and clusters of their own, and the long ones
# make check      formatting, lint, strict types

PYTHON ?= python3
ENGINE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
BIN := .venv/bin

# uv reads its own name for a folder of wheels; pip's is what people have set.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

# Compiled once at installation, or every start would compile again where writing bytecode is off.
UV := $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --editable
# vLLM's CPU build needs PyTorch's CPU build. That is on PyTorch's own index, unless a folder of wheels has it.
CPU_TORCH := --torch-backend cpu
FIRST := $(if $(UV_FIND_LINKS),,$(CPU_TORCH))
SECOND := $(if $(UV_FIND_LINKS),$(CPU_TORCH),)

# Measured with `uv pip compile --format pylock.toml`, which knows the size of each wheel (2026-11-30).
SIZE_cpu := 160 packages, 1 GB to download, 3.8 GB on disk
SIZE_gpu := 210 packages, 4.3 GB to download
SIZE_dev := 40 more packages, 0.3 GB to download

.PHONY: demo test test-rest test-all check format clean
.DELETE_ON_ERROR:

demo: .venv/.run-$(ENGINE)
	$(BIN)/localemp generate --model smollm2 --strategy knowledge --show 12

test: .venv/.dev-$(ENGINE)
	$(BIN)/pytest

test-rest: .venv/.dev-$(ENGINE)
	$(BIN)/pytest -m 'slow or engine or cluster'

test-all:
	$(MAKE) test
	$(MAKE) test-rest

check: .venv/.dev-$(ENGINE)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: .venv/.dev-$(ENGINE)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/.run-$(ENGINE): pyproject.toml | $(BIN)/uv
	@echo "Installing localemp with vLLM for this machine ($(ENGINE)): $(SIZE_$(ENGINE)), less what uv has in its cache"
	@$(call install,$(ENGINE))
	@touch $@

.venv/.dev-$(ENGINE): .venv/.run-$(ENGINE)
	@echo "Installing what the tests need: $(SIZE_dev), less what uv has in its cache"
	@$(call install,$(ENGINE)$(,)dev)
	@touch $@

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "localemp needs Python 3.11 or later; name one: make demo PYTHON=python3.11")'
	@echo "Making .venv, and fetching uv (18 MB), which installs the rest"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

, := ,
ifeq ($(ENGINE),cpu)
other = echo "Trying the other source of PyTorch's CPU build"
install = $(UV) '.[$(1)]' $(FIRST) || { $(other); $(UV) '.[$(1)]' $(SECOND); }
else
install = $(UV) '.[$(1)]'
endif
