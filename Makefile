# Every command of the project. `make` alone shows them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := libs/sip libs/runtime proto $(sort $(dir $(wildcard services/*/pyproject.toml)))
INTERNAL := pbx-sip pbx-runtime pbx-proto pbx-registrar pbx-signaling pbx-media-relay pbx-events pbx-operator sip-pbx sip-pbx-workspace
SOURCES := $(wildcard libs/*/src services/*/src) tests tools

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.venv/.stamp: requirements.lock $(wildcard */*/pyproject.toml) proto/pyproject.toml
	@tools/make-venv $(PYTHON)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(foreach p,$(PACKAGES),-e $(p))
	@$(BIN)/pip --disable-pip-version-check check >/dev/null || { $(BIN)/pip check; exit 1; }
	@touch $@

NATIVE := services/media-relay/src/pbx_media_relay/datapath/_relay.so
# Built with the package; again where the sources are newer, or where a compiler came later.
$(NATIVE): .venv/.stamp $(wildcard services/media-relay/native/src/* services/media-relay/native/include/*)
	@$(BIN)/python services/media-relay/hatch_build.py || true
	@if [ -f $@ ]; then touch $@; fi

.PHONY: setup
setup: .venv/.stamp $(NATIVE) ## Make .venv with the locked dependencies and the packages of this repository

.PHONY: setup-tools
setup-tools: ## Install the Debian packages that tests and benchmarks need (root or sudo)
	@tools/install-debian

.PHONY: run
run: setup ## Start everything on this machine: two accounts, SIP on 5060, HTTP on 8080
	@exec $(BIN)/sip-pbx up $(ARGS)

.PHONY: check
check: setup format-check lint types imports proto-check bpf-check crds-check reference-check chart-lint spelling hygiene test-unit ## What must be green before a commit

.PHONY: format
format: setup ## Format the code
	@$(BIN)/ruff format --quiet $(SOURCES)
	@$(BIN)/ruff check --quiet --select I --fix $(SOURCES)

.PHONY: format-check
format-check: setup ## Check the format
	@$(BIN)/ruff format --check --quiet $(SOURCES)

.PHONY: lint
lint: setup ## Lint
	@$(BIN)/ruff check --quiet $(SOURCES)

.PHONY: types
types: setup ## Check types (mypy --strict)
	@$(BIN)/mypy $(foreach s,$(wildcard libs/*/src services/*/src),$(s)) tools tests/support

.PHONY: imports
imports: setup ## Check who imports whom
	@set -o pipefail; $(BIN)/lint-imports --no-cache | grep -A3 "KEPT\|BROKEN\|not allowed"

.PHONY: spelling
spelling: setup ## Check spelling
	@$(BIN)/codespell libs services proto/pbx tests tools docs *.md

.PHONY: hygiene
hygiene: setup ## Check line ends, merge marks, private keys, large files
	@git ls-files -z -- ':!proto/gen' ':!tests/data' ':!tests/torture' '*.py' '*.md' '*.toml' '*.proto' '*.yaml' '*.yml' \
	  '*.c' '*.h' Makefile tools .ci | xargs -0 $(BIN)/python tools/hygiene.py

.PHONY: proto
proto: setup ## Generate proto/gen from proto/pbx
	@$(BIN)/python tools/proto_gen.py

.PHONY: proto-check
proto-check: setup ## Check that proto/gen is what `make proto` would write
	@$(BIN)/python tools/proto_gen.py --check

CRDS := helm/sip-pbx/crds
.PHONY: crds
crds: setup ## Generate the CRDs of the chart from the operator's models
	@$(BIN)/python -m pbx_operator.generate_crds $(CRDS)

.PHONY: crds-check
crds-check: setup ## Check that the chart's CRDs are what `make crds` would write
	@$(BIN)/python -m pbx_operator.generate_crds --check $(CRDS)

.PHONY: reference
reference: setup ## Write the references in docs from the code (errors, ...)
	@$(BIN)/python tools/reference.py

.PHONY: reference-check
reference-check: setup ## Check that the references in docs are what the code says
	@$(BIN)/python tools/reference.py --check

.PHONY: notices
notices: setup ## Write the table of licences in NOTICE anew (after a change of the lock)
	@$(BIN)/python tools/notices.py

.PHONY: chart-lint
chart-lint: setup ## helm lint, every scenario of helm/sip-pbx/ci rendered (not run where helm cannot be had)
	@tools/chart-lint

.PHONY: chart-test
chart-test: setup ## Tests of the chart's templates and of every object against the Kubernetes schemas
	@tools/install-helm >/dev/null
	@$(BIN)/pytest -q -n 2 tests/chart

BPF := services/media-relay/bpf
.PHONY: bpf
bpf: ## Compile the relay's kernel program anew (needs clang and libbpf-dev); the object is committed
	@$(MAKE) --no-print-directory -C $(BPF)

.PHONY: bpf-check
bpf-check: ## Check that the committed object is what its sources make (not run where there is no clang)
	@if command -v clang >/dev/null && [ -e /usr/include/bpf/bpf_helpers.h ]; then $(MAKE) --no-print-directory -C $(BPF) check; \
	else echo "bpf-check not run: clang or libbpf-dev is missing"; fi

.PHONY: lock
lock: ## Resolve requirements.lock anew (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  --group dev pyproject.toml $(addsuffix /pyproject.toml,$(patsubst %/,%,$(PACKAGES))) \
	  $(foreach p,$(INTERNAL),--no-emit-package $(p)) -o requirements.lock

.PHONY: test-unit
test-unit: setup ## Unit, simulation and conformance tests: no process, no network
	@$(BIN)/pytest -q -n 2 $(wildcard tests/unit tests/sim tests/conformance tests/torture)

.PHONY: test
test: setup setup-tools ## Every test that needs no cluster: unit to interop (the chart's where helm is found)
	@PBX_SEQUENCES=200 $(BIN)/python tools/test_all.py

IMAGE ?= sip-pbx
TAG ?= 0.1.0
IMAGES := registrar signaling media-relay events operator
.PHONY: images
images: ## Build the images of all services with docker, or with buildah where there is no docker daemon
	@builder="docker build"; docker info >/dev/null 2>&1 || builder="buildah build --layers"; \
	command -v $${builder%% *} >/dev/null || { echo "images not built: neither a docker daemon nor buildah here"; exit 1; }; \
	for target in $(IMAGES); do $$builder --target $$target --tag $(IMAGE)-$$target:$(TAG) . || exit 1; done

.PHONY: images-push
images-push: images ## Build the images and push them: IMAGE=registry.example.org/pbx/sip-pbx TAG=0.1.0
	@builder=docker; docker info >/dev/null 2>&1 || builder=buildah; \
	case "$(IMAGE)" in */*) ;; *) echo "name your registry: make images-push IMAGE=registry.example.org/pbx/sip-pbx"; exit 1;; esac; \
	for target in $(IMAGES); do $$builder push $(IMAGE)-$$target:$(TAG) || exit 1; done

.PHONY: k8s-tools
k8s-tools: ## Build what test-k8s runs from Go modules: control planes of two Kubernetes minors, etcd, helm 3 and 4 (30 min)
	@$(PYTHON) tools/k8s_tools.py $(ARGS)

.PHONY: test-k8s
test-k8s: setup k8s-tools ## The chart and the operator on real control planes, both minors, helm 3 and 4 (root)
	@PBX_K8S=all $(BIN)/pytest -v -n0 tests/k8s $(ARGS)

.PHONY: fuzz-service
fuzz-service: setup ## Fuzz the running product with mutated messages: FOR=1800 seconds, SEED=1
	@FOR=$(or $(FOR),1800) SEED=$(or $(SEED),1) PYTHONPATH=tests $(BIN)/python tests/fuzz/service.py

.PHONY: fuzz
fuzz: setup ## Fuzz a parser with atheris: TARGET=message|stream|description, ARGS=-max_total_time=60
	@test -x build/fuzz/bin/python || $(PYTHON) -m venv build/fuzz
	@build/fuzz/bin/pip install --quiet --disable-pip-version-check atheris
	@FUZZ_TARGET=$(or $(TARGET),message) PYTHONPATH=tests:libs/sip/src build/fuzz/bin/python tests/fuzz/parsers.py \
	  $(or $(ARGS),-max_total_time=60)

.PHONY: native-check
native-check: setup ## The native datapath's C under ASan and UBSan: random packets, threads (also run by `make test`)
	@$(MAKE) --no-print-directory -C services/media-relay/native check

.PHONY: native-fuzz
native-fuzz: ## Fuzz the native datapath's packet path with libFuzzer: ARGS=-max_total_time=60
	@$(MAKE) --no-print-directory -C services/media-relay/native fuzz

.PHONY: relay-cycles
relay-cycles: setup ## 10 000 calls come and go at a relay of each datapath: nothing may be left (root)
	@PBX_RELAY_CYCLES=10000 $(BIN)/python -m pytest -q -s -n0 tests/integration/test_relay_cycles.py $(ARGS)

.PHONY: bench
bench: setup setup-tools ## Measure calls, registrations and relaying; table and build/bench.json
	@PYTHONPATH=tests $(BIN)/python -m load.bench $(ARGS)

.PHONY: bench-counts
bench-counts: setup setup-tools ## Count a call's instructions and context switches alone; ARGS="--core --tree ../other" beside another checkout
	@PYTHONPATH=tests $(BIN)/python -m load.counts $(ARGS)

.PHONY: sizing
sizing: setup setup-tools ## Measure what a registration, a held call and a CDR cost in CPU, memory, Redis and disk; build/sizing.json
	@PYTHONPATH=tests $(BIN)/python -m load.sizing $(ARGS)

.PHONY: bench-forged
bench-forged: setup ## Measure what an INVITE with made-up credentials costs, and calls under a flood of them; build/forged.json
	@PYTHONPATH=tests $(BIN)/python -m load.forged $(ARGS)

.PHONY: bench-replicas
bench-replicas: setup setup-tools ## Measure several signaling processes at one address, each held to a quarter of a core (root); build/replicas.json
	@PYTHONPATH=tests $(BIN)/python -m load.replicas $(ARGS)

.PHONY: bench-media
bench-media: setup ## The same RTP through every datapath, rtpengine and plain forwarding; table and build/bench-media.json
	@command -v rtpengine >/dev/null && command -v clang >/dev/null || tools/install-debian rtpengine-daemon clang libbpf-dev || true
	@PYTHONPATH=tests $(BIN)/python -m load.media.bench $(ARGS)

.PHONY: soak
soak: setup setup-tools ## 100 simultaneous calls with RTP for 60 s: nothing lost, nothing left over
	@PYTHONPATH=tests $(BIN)/python -m load.soak $(ARGS)

.PHONY: chaos
chaos: setup setup-tools ## Kill processes for five minutes under load: no CDR, no webhook may be missing
	@PYTHONPATH=tests $(BIN)/python -m load.chaos $(ARGS)

.PHONY: newcomer
newcomer: setup setup-tools ## A fresh clone in a scratch directory: make run, two phones call, CDR and webhook come
	@PYTHONPATH=tests $(BIN)/python -m load.newcomer $(ARGS)

.PHONY: bench-runtime
bench-runtime: setup ## Measure CPU per command of the batched stream and of the Redis pipeline
	@PYTHONPATH=tests $(BIN)/python -m load.micro_runtime

.PHONY: bench-events
bench-events: setup ## Measure events per second into CDRs and a webhook; ARGS="--pages 1000000" times the filters of the API
	@PYTHONPATH=tests $(BIN)/python -m load.micro_events $(ARGS)

.PHONY: clean
clean: ## Remove what can be made again
	@rm -rf .venv build var .pytest_cache .mypy_cache .ruff_cache .hypothesis
