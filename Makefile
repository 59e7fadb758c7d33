# `make repro` and `make test` need git, make and Python 3.11 or newer (Debian and Ubuntu: python3-venv too), nothing else.
PYTHON ?= python3
VENV := .venv
PORT ?= 5000# of `make ui`
TORCH ?=# PyTorch's build of another backend than CUDA's: cpu, or what else `uv pip install --torch-backend` takes
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
INSTALLED := $(VENV)/.installed
# An environment without pip, as venv leaves it where python3-venv is missing or Ctrl-C ends it, is made anew.
define INSTALL_UV
	$(PYTHON) -c 'import sys; sys.exit(sys.platform != "linux" and "Linux is needed; on Windows use WSL2, on macOS docker compose")'
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
endef
UV := $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python
# The one without a wheel; uv would build it by the newest setuptools, whatever its hash.
BUILT_HERE := --no-build-isolation-package antlr4-python3-runtime
# `dvc config --local`, which fails where a path of this checkout is not ASCII (DVC 3.67).
DVC_LOCAL := $(VENV)/bin/python -c 'import sys, configobj; \
	file = configobj.ConfigObj(".dvc/config.local", encoding="utf-8"); \
	file.setdefault(sys.argv[1], {})[sys.argv[2]] = sys.argv[3]; file.write()'

.PHONY: repro release test test-long test-all test-cluster lint docs ui bench reliability gpu-check lock licences sbom audit pin-images \
	kuberay-crds

# The whole experiment on the embedded default; dvc.yaml is the graph.
repro: $(INSTALLED)
	@test -e .git || $(DVC_LOCAL) core no_scm true # an unpacked archive of the repository
	@python -m pipeline.parent # removes a lock of DVC that a kill left torn
	dvc repro
	@pipeline summary

# The results of a commit, for `dvc pull` (docs/dvc.md): dvc.lock names them, DVC's default remote holds them.
release: $(INSTALLED)
	@test -z "$$(git status --porcelain --untracked-files=no -- . ':(exclude)dvc.lock')" || { \
		echo "tracked files differ from the last commit; commit or restore them, since dvc.lock is to name the results of a commit" >&2; exit 2; }
	@test -n "$$(dvc config core.remote 2>/dev/null)" || { \
		echo "DVC has no default remote to push to; name one: dvc remote add --default NAME URL" >&2; exit 2; }
	dvc repro
	dvc push
	@echo "then: git add dvc.lock && git commit --message 'Results of the default experiment'"

# A process more than cores, since tests wait for processes of their own; each test file stays in one of them.
PYTEST = pytest -n $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count() + 1))") --dist loadfile --no-loadscope-reorder
test: $(INSTALLED)
	$(PYTEST) -m "not long and not slow and not gpu and not cluster"

# Tests of trainings, sweeps and pictures that take seconds each.
test-long: $(INSTALLED)
	$(PYTEST) -m "long and not slow and not gpu and not cluster"

test-all: $(INSTALLED)
	pytest -m "not cluster"

# Hosts that are cut off, stopped and switched off, two clusters at a time; needs root for their networks.
test-cluster: $(INSTALLED)
	pytest -n 2 --dist load -m "cluster and not slow" tests/cluster --table docs/cluster.md

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy

# The pages of docs/ and README.md as a site in site/; broken links are errors.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

# MLflow's pages over the local store, for this machine alone. Paths are relative, as those above may hold any character.
ui: $(INSTALLED)
	@python -c 'import socket, sys; s = socket.socket(); sys.exit(s.connect_ex(("127.0.0.1", $(PORT))) == 0 and \
		f"port {$(PORT)} is in use; end what listens there, or choose another port: make ui PORT={$(PORT) + 1}")'
	@echo "http://127.0.0.1:$(PORT)/#/experiments?workflowType=machine_learning"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true mlflow server \
		--backend-store-uri sqlite:///mlruns/mlflow.db --default-artifact-root mlruns/artifacts --host 127.0.0.1 --port $(PORT)

bench: $(INSTALLED)
	python -m benchmarks

# Faults and bad input against what docs/reliability.md promises; under an hour on two cores.
reliability: $(INSTALLED)
	python -m reliability

# On a machine with a CUDA device: what it computes, then how fast.
gpu-check: $(INSTALLED)
	pytest -m gpu tests/gpu
	python -m benchmarks gpu

# By the locked versions and hashes. PyTorch keeps its other builds apart, where uv finds them; the lock has no hashes of those.
$(INSTALLED): requirements.txt requirements-uv.txt pyproject.toml
	$(INSTALL_UV)
	sed -n '/^setuptools==/,/^    #/p' requirements.txt | $(UV) --require-hashes -r - # it builds what has no wheel
ifeq ($(TORCH),)
	$(UV) --compile-bytecode --require-hashes $(BUILT_HERE) -r requirements.txt
else
	awk '/^[a-z]/ { drop = /^(torch|torchvision|triton|cuda-[a-z-]+|nvidia-[a-z0-9-]+)==/ } !drop' requirements.txt > $(VENV)/requirements.txt
	$(UV) --compile-bytecode --require-hashes $(BUILT_HERE) --no-deps -r $(VENV)/requirements.txt
	$(UV) --compile-bytecode --torch-backend=$(TORCH) $$(grep --only-matching --extended-regexp '^(torch|torchvision)==[0-9.]+' requirements.txt)
endif
	$(UV) --no-deps --no-build-isolation -e .
	mkdir -p .dvc/tmp && mkdir -p -m 700 .dvc/tmp/site
	$(DVC_LOCAL) core site_cache_dir "$$(pwd)/.dvc/tmp/site" # by default /var/tmp/dvc, open to all
	touch $@

# Both lock files, with hashes and without any registry's address.
lock:
	$(INSTALL_UV)
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --all-extras pyproject.toml -o requirements.txt
	echo "uv==0.13.9" | $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 - -o requirements-uv.txt

# Licences, bill of materials and advisories of the locked dependencies, see .ci/dependencies.py.
licences sbom audit: $(INSTALLED)
	@python .ci/dependencies.py $@

# Writes images' digests behind their tags; needs docker and access to the registries.
pin-images:
	docker/pin-images.sh

# The schemas of RayCluster and RayJob, by which tests check deploy/kuberay; from KubeRay's public repository, by checksum.
kuberay-crds:
	mkdir -p .cache/kuberay
	set -e; for name in $$(cut --characters 67- deploy/kuberay/crds.sha256); do \
		curl --fail --silent --show-error --location --output .cache/kuberay/$$name \
			https://raw.githubusercontent.com/ray-project/kuberay/v1.7.0/ray-operator/config/crd/bases/$$name; done
	cd .cache/kuberay && sha256sum --check ../../deploy/kuberay/crds.sha256
