# SPDX-License-Identifier: Apache-2.0
# Every task installs what it needs first, so a fresh clone needs only `make`.
# Paths are relative, because the clone's folder may have a space in its name.

PORT ?= 8080
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help run test test-browser test-pythons test-slow test-cluster test-image test-linux test-full-size fuzz ci bench-engine bench-frontend bench-gpu lint format docs docs-pictures demo-train demo-evaluate lock wheel image clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  make run PORT=9000              another port'
	@echo '  make run PYTHON=python3.12      another Python (3.11 or 3.12)'

run:  ## Install, then start the embedded Triton and the frontend on http://localhost:8080
	@scripts/setup embedded
	@exec .venv/bin/python -m fastapi_triton serve --embedded --port $(PORT)

# Two workers take a third less time on 2 cores, because tests often wait for a server.
test:  ## Run the tests except for the slow ones below, two files at once (10 to 20 minutes on 2 cores); ARGS='-n 0 tests/app/test_app.py'
	@scripts/setup embedded,dev
	@exec .venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow and not browser and not full_size and not fuzz and not cluster and not image and not linux" $(ARGS)

test-browser:  ## Draw on the page in Chromium, and read the documentation's page (5 minutes on 2 cores)
	@scripts/setup embedded,dev
	@exec .venv/bin/python -m pytest -n 2 --dist loadfile tests/pictures tests/integration -m "browser and not slow" $(ARGS)

# ARGS='--junitxml=...' writes one report, so CI runs it for each Python.
PYTHONS ?= 3.12 3.13 3.14
test-pythons:  ## Test the frontend alone, without torch and Triton, on other Pythons (4 minutes each); PYTHONS=3.13
	@exec scripts/test_pythons $(PYTHONS) -- $(ARGS)

# Three workers: these tests wait even more, for installations and restarts.
test-slow:  ## Run the tests marked slow: floods, bombs, faults, thousands of pictures
	@scripts/setup embedded,dev
	@exec .venv/bin/python -m pytest -n 3 --dist loadfile -m slow --timeout=900 $(ARGS)

test-cluster:  ## Run the tests of `serve --cluster`: starts Ray and several Tritons, many minutes on 2 cores
	@scripts/setup embedded,dev,cluster
	@exec .venv/bin/python -m pytest -m cluster $(ARGS)

test-image:  ## Build the container images on stand-in bases and test them, as root on Debian or Ubuntu (minutes)
	@scripts/setup embedded,dev
	@exec tests/images/run $(ARGS)

test-linux:  ## Install and start on fresh Debian 12, Debian 13 and Ubuntu 24.04, as root on Debian or Ubuntu (minutes)
	@scripts/setup embedded,dev
	@.ci/packages debootstrap
	@exec .venv/bin/python -m pytest -n 2 --dist loadfile tests/linux -m linux --timeout=900 $(ARGS)

# On processors without bfloat16, each pass allocates memory for each layer's weights. By default glibc serves such
# allocations from its heap, which fragments by gigabytes. With this threshold it returns them to the system.
test-full-size:  ## Run the engine on SDXL's real architecture with random weights (15 GB, many minutes)
	@scripts/setup embedded,dev
	@exec env MALLOC_MMAP_THRESHOLD_=1048576 .venv/bin/python -m pytest tests/full_size -m full_size $(ARGS)

fuzz:  ## Fuzz every endpoint (many minutes), number of inputs of each kind: FUZZ_BODIES=100000, FUZZ_CONNECTIONS=20000, FUZZ_PICTURES=20000, FUZZ_V2=100000, FUZZ_EXAMPLES=300
	@scripts/setup embedded,dev
	@exec .venv/bin/python -m pytest tests/fuzz tests/integration/test_fuzz.py tests/hostile/v2/test_v2_mutations.py -m fuzz $(ARGS)

ci:  ## Run everything that can run without a GPU, as CI does: an hour, needs Debian and root; ARGS='lint test' for some parts
	@exec .ci/run $(ARGS)

lint:  ## Check style, types and the import direction of packages: ruff, mypy, import-linter
	@scripts/setup embedded,dev
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/python -m mypy
	.venv/bin/python -m mypy models/sdxl_scribble_controlnet  # separate run, because both models have a model.py

format:  ## Format the code and fix style errors
	@scripts/setup embedded,dev
	.venv/bin/python -m ruff check --fix .
	.venv/bin/python -m ruff format .

docs:  ## Write the tables of docs/reference/ that are generated from the code
	@scripts/setup embedded,dev
	.venv/bin/python scripts/reference_pages.py

docs-pictures:  ## Draw the README's pictures with the demo checkpoint; needs Chromium and an idle machine; ARGS='--drawing face'
	@scripts/setup embedded,dev
	.venv/bin/python -m scripts.examples_picture
	.venv/bin/python -m scripts.record_page $(ARGS)

demo-train:  ## Train your own demo checkpoint (about four hours on two cores): demo/README.md
	@scripts/setup embedded,dev
	.venv/bin/python -m demo.train $(ARGS)

demo-evaluate:  ## Evaluate the demo checkpoint and draw its contact sheets
	@scripts/setup embedded,dev
	.venv/bin/python -m demo.evaluate $(ARGS)

lock:  ## Write requirements.txt and constraints.txt from the installed versions
	@scripts/setup embedded,dev
	@scripts/lock

bench-engine:  ## Measure the engine against stock diffusers: an hour on an idle machine, minutes with ARGS=--quick
	@scripts/setup embedded
	@exec .venv/bin/python -m benchmarks.engine $(ARGS)

bench-frontend:  ## Compare the frontend's cost with nginx, minimal handlers and LitServe (10 minutes; needs nginx)
	@scripts/setup embedded
	@exec .venv/bin/python -m benchmarks.frontend $(ARGS)

bench-gpu:  ## Measure the engine on a GPU (8 minutes): benchmarks/gpu_kit/README.md
	@scripts/setup embedded
	@exec env PYTHON=.venv/bin/python benchmarks/gpu_kit/run $(ARGS)

wheel:  ## Build the wheel, with the app, models and examples, into dist/
	@scripts/setup embedded,dev
	.venv/bin/python -m build --wheel

image:  ## Build a container image with docker, podman or buildah: the frontend's, or IMAGE=demo, IMAGE=triton
	@scripts/build_image $(or $(IMAGE),frontend)

clean:  ## Remove the files of other tasks, except .venv
	rm -rf dist build .roots .venv-3.* .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
