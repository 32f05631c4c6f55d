# Everything runs in .venv, which is made from pyproject.toml at the versions of constraints.txt.
# PYTHON=... chooses the interpreter of a new .venv; ARGS=... goes to `make train`, `demo`, `soak`, `mutants` and `bench` as it stands.

PYTHON ?= python3.11 python3.12 python3
EXTRAS := ray,tune,atari,procgen,popgym,minigrid,mujoco,vizdoom,wandb,plot,test
ARGS ?=
# Processes that run the tests, one more than two cores: those whose tests start Ray wait for most of their time. Each
# has one thread: the tests' tensors are small, and threads that wait for each other on busy cores take several times
# the CPU.
JOBS ?= 3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The second ProcGen backend, for the tests only. It lies beside .venv, since its metadata asks for NumPy 1.
DOCS := $(VENV)/.docs
MIRROR := build/procgen-mirror
MIRROR_PINS := procgen-mirror==0.10.7 gym3==0.3.3 gym==0.26.2

# How long `make soak` shakes its runs, in minutes.
MINUTES ?= 20

# What Atari inline needs beside torch, triton and numpy: for `python -m benchmarks.gpu --wheels`, on a machine without
# network. GPU_PYTHON: that machine's.
GPU_PYTHON ?= 3.12
GPU_WHEELS := ale-py gymnasium cloudpickle farama-notifications typing-extensions tyro docstring-parser typeguard rich \
	markdown-it-py mdurl pygments filelock psutil safetensors packaging

.PHONY: help gpu-wheels train demo docs test soak mutants test-docker test-slurm lint bench clean system-deps
.DEFAULT_GOAL := help

help:
	@echo "make train   train on Atari Breakout by exact RTRL (the CPU preset where there is no GPU); ARGS='--seed 2'"
	@echo "make demo    exact RTRL against TBPTT on a task of memory: runs/demo/summary.md and a figure"
	@echo "make docs    the documentation as a site: build/site/index.html"
	@echo "make test    run the test suite"
	@echo "make soak    train for 20 minutes under random kills, and hold what is left to account; MINUTES=60"
	@echo "make mutants   plant some 200 faults one by one, and show that the fast tests find each; ARGS='--only loss'"
	@echo "make test-docker   build the image and train in containers: needs a Docker engine; minutes"
	@echo "make test-slurm   run the SLURM script in a SLURM of one node: needs root, slurm-wlm and munge; minutes"
	@echo "make lint    ruff, pyright and the import contracts"
	@echo "make bench   three minutes: throughput, its bottleneck, and what to change"
	@echo "make gpu-wheels   build/gpu-wheels: what a GPU machine without network needs for Atari (benchmarks.gpu --wheels)"
	@echo "make system-deps   as root (Debian, Ubuntu): Qt 5, which envpool draws ProcGen with; docker-compose"
	@echo "make clean   remove .venv, caches and build outputs; never runs/"

train: $(STAMP)
	@preset=$$($(BIN)/python -c "import torch; print('atari_breakout_rtrl' + '_cpu' * (not torch.cuda.is_available()))") \
		&& set -x && exec $(BIN)/python launch.py train $$preset $(ARGS)

demo: $(STAMP)
	$(BIN)/python launch.py experiment tmaze --seeds 0 1 2 --out runs/demo $(ARGS)

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

test: $(STAMP) $(DOCS) $(MIRROR)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --durations=15 -rfEs $(ARGS)

soak: $(STAMP)
	$(BIN)/python -m tests.soak.run --minutes $(MINUTES) $(ARGS)

mutants: $(STAMP)
	$(BIN)/python -m tests.mutants.run $(ARGS)

test-docker: $(STAMP)
	EVERTRACE_TEST_DOCKER=1 $(BIN)/python -m pytest -v -rfEs tests/docker $(ARGS)

test-slurm: $(STAMP)
	EVERTRACE_TEST_SLURM=1 $(BIN)/python -m pytest -v -rfEs tests/cluster/test_slurm.py $(ARGS)

# What pyright reads of the tests imports what makes the documentation.
lint: $(STAMP) $(DOCS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python launch.py bench $(ARGS)

gpu-wheels: $(STAMP)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version $(GPU_PYTHON) -c constraints.txt \
		--dest build/gpu-wheels $(GPU_WHEELS)
	du -sh build/gpu-wheels

system-deps:
	apt-get update -qq
	apt-get install -y --no-install-recommends libqt5gui5
	docker compose version >/dev/null 2>&1 || apt-get install -y --no-install-recommends docker-compose

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

# An interpreter is tried by running it: a name on PATH may be a shim of a version that is not there.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python && exit 0; \
	for python in $(PYTHON); do \
		if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then \
			set -x; exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "make: none of '$(PYTHON)' is a Python 3.11 or 3.12 with venv: install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[$(EXTRAS)]"
	@touch $@

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[docs]"
	@touch $@

$(MIRROR)/.installed: Makefile $(STAMP)
	rm -rf $(MIRROR)
	$(BIN)/python -m pip install --quiet --no-deps --target $(MIRROR) $(MIRROR_PINS)
	@touch $@
