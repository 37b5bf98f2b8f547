# Everything here works on a machine with Go and make; only `make race` also
# needs a C compiler, and `make generate` npm. Other tools are built into a cache
# when first asked for: see tools/tool.sh.

.DEFAULT_GOAL := help

# Narrow a run: make test PKG=./internal/api TESTFLAGS='-run SignUp -v'
PKG ?= ./...
TESTFLAGS ?=
# Flags of `gatehouse serve` for make run, for example ARGS=--mode=test.
ARGS ?=
FUZZTIME ?= 30s
BENCH ?= .
BENCHCOUNT ?= 1
KILLS ?= 200
SECONDS ?= 180
COPIES ?= 10
PROFILE ?= gate
RATIO ?= 3
# An earlier bin/bench.txt to compare with.
BASE ?=
# Another vulnerability database; empty is Go's own.
VULNDB ?=

# The binary is static, so what is tested and linted is that build, not one
# with libc's resolver. It also lets all steps share one build cache.
export CGO_ENABLED := 0

version := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build and serve on 127.0.0.1:8080, data in gatehouse.db here (ARGS: flags of serve)
	@exec bin/gatehouse serve $(ARGS)

# The version is stamped, not read from git by Go: a checkout that git distrusts
# must not stop a build.
.PHONY: build
build: ## build the static binary bin/gatehouse
	go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(version)' -o bin/gatehouse ./cmd/gatehouse

.PHONY: test
test: ## run all tests, which also hold the generated documents to the code
	@tools/test.sh $(TESTFLAGS) $(PKG)

.PHONY: gate
gate: build ## run the load suite on three nodes of its own and compare it with baselines/gate (PROFILE=smoke: short); reports in bin/suite
	@tools/postgres.sh must
	go build -o bin/gate ./test/gate
	@tools/gate.sh $(PROFILE) $(RATIO)

.PHONY: prove
prove: build ## verify limits and count what is lost while three nodes and their PostgreSQL are killed; reports in bin/prove
	@tools/postgres.sh must
	go build -o bin/gate ./test/gate
	GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_prove GATEHOUSE_LIMIT_ONBOARDING=10/10s GATEHOUSE_LIMIT_CREDENTIAL_EXCHANGE=60/10s \
		GATEHOUSE_LIMIT_WEBHOOK_UNAUTHENTIC=60/10s GATEHOUSE_LIMIT_AUTH_FAILURE=60/10s \
		bin/gate -nodes 3 -kill 4s -kill-for 68s tools/prove.sh '{targets}' '{admin}' '{provider}'

.PHONY: race
race: ## run all tests under the race detector
	@CGO_ENABLED=1 tools/test.sh -race $(TESTFLAGS) $(PKG)

.PHONY: crash
crash: ## kill a node KILLS times (200) amid sign-ups, and count what is lost or done twice
	go test ./cmd/gatehouse -count=1 -v -timeout=2h -run='^TestCrashFollowUps$$' -crash.kills=$(KILLS)

.PHONY: cluster
cluster: ## kill and restart three nodes and their PostgreSQL for SECONDS (180) under load, and count what is lost
	@tools/postgres.sh must
	go test ./cmd/gatehouse -count=1 -v -timeout=2h -parallel=1 -cluster.seconds=$(SECONDS) -cluster.connections=10000 \
		-run='^(TestCluster|TestClusterFollowUps|TestRollingRestart|TestManyConnections)$$'

.PHONY: chaos-billing
chaos-billing: ## live COPIES (10) times the lives of customers at Stripe, with events lost and nodes killed, and compare with a calm run
	@tools/postgres.sh must
	go test ./cmd/gatehouse -count=1 -v -timeout=2h -run='^TestChaosBilling$$' -chaos.copies=$(COPIES)

.PHONY: revoke-trial
revoke-trial: ## revoke 1,000 credentials on three nodes that are asked with them, and tell the worst
	@tools/postgres.sh must
	go test ./cmd/gatehouse -count=1 -v -timeout=2h -run='^TestRevokeTrial$$' -revoke.trials=1000

.PHONY: budget-race
budget-race: ## make 2,000 calls at once over three nodes within one budget, and count what is spent
	@tools/postgres.sh must
	go test ./cmd/gatehouse -count=1 -v -timeout=1h -run='^TestBudgetRace$$' -budget.calls=2000

.PHONY: lint
lint: ## check style, likely bugs and the direction of imports
	@linter=$$(tools/tool.sh golangci-lint) && "$$linter" run $(PKG)

.PHONY: fmt
fmt: ## format the code as lint wants it
	@linter=$$(tools/tool.sh golangci-lint) && "$$linter" fmt $(PKG)

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (30s) each
	@FUZZTIME='$(FUZZTIME)' tools/fuzz.sh $(PKG)

.PHONY: bench
bench: ## run the benchmarks (BENCH, BENCHCOUNT; BASE=old.txt compares)
	@BENCH='$(BENCH)' BENCHCOUNT='$(BENCHCOUNT)' BASE='$(BASE)' tools/bench.sh $(PKG)

.PHONY: generate
generate: ## write generated code and documents anew
	go generate ./...
	go test ./internal/archtest -run Docs -update

.PHONY: vuln
vuln: ## look for known vulnerabilities in what we build from
	@VULNDB='$(VULNDB)' tools/vuln.sh $(PKG)

.PHONY: tidy-check
tidy-check: ## check that go.mod and go.sum are tidy
	go mod tidy -diff

.PHONY: clean
clean: ## remove what was built (never gatehouse.db)
	rm -rf bin cover.out
