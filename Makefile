# Keysentry. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN      := bin/keysentry
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)
TESTFLAGS ?=

# Parameters of the measuring targets.
BROKER   ?= kfake
EVENTS   ?=
FAULT    ?= kill
ROUNDS   ?=
SEED     ?= 1
OUTAGE   ?=
RATE     ?=
FUZZTIME ?= 30s
PEER     ?= rsigma
SEEDS    ?= 1-3
CORPUS   ?= $(or $(KEYSENTRY_SIGMA_CORPUS),$(or $(KEYSENTRY_SHARED),../shared)/data/sigma)
DEMO_ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: build ## fetch what the project needs besides Go modules: the embedded ClickHouse engine, Apache Kafka
	$(BIN) dev fetch

.PHONY: build
build: ## build bin/keysentry
	go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/keysentry

.PHONY: demo
demo: build ## play the story: a drift, a straggler, a stolen key, the rotation (DEMO_ARGS=--exit ends by itself)
	$(BIN) dev fetch clickhouse
	$(BIN) demo $(DEMO_ARGS)

.PHONY: test
test: deps ## everything: unit, real ClickHouse, embedded and Apache Kafka
	go test -timeout 20m $(TESTFLAGS) ./...

.PHONY: check
check: ## the fast checks to run before each commit: format, vet, layers, short tests
	@test -z "$$(gofmt -l .)" || { echo "gofmt:"; gofmt -l .; exit 1; }
	go vet ./...
	go test ./internal/archtest
	go test -short $(TESTFLAGS) ./...

.PHONY: lint
lint: ## vet and staticcheck
	go vet ./...
	go tool staticcheck ./...

.PHONY: race
race: deps ## the tests under the race detector
	go test -race -timeout 30m $(TESTFLAGS) ./...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s)
	@set -e; for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

.PHONY: bench
bench: ## the benchmarks of every package, with allocations
	go test -run '^$$' -bench . -benchmem $(TESTFLAGS) ./...

.PHONY: bench-e2e
bench-e2e: build ## end to end: events/s, CPU per event, alert latency, against the floor (BROKER=kfake|kafka EVENTS=N)
	$(BIN) bench e2e --broker $(BROKER) $(if $(EVENTS),--events $(EVENTS))

.PHONY: bench-peers
bench-peers: build ## against others in one run (PEER=rsigma, which needs cargo, CORPUS=PATH of the SigmaHQ rules; PEER=clickhouse-kafka)
	$(BIN) bench peers --peer $(PEER) --corpus '$(CORPUS)' $(if $(EVENTS),--events $(EVENTS))

.PHONY: bench-decode
bench-decode: ## one table of JSON decoders over a canonical event: ours, encoding/json, encoding/json/v2, sonic
	go test ./event -run '^$$' -bench BenchmarkDecode -benchmem
	GOEXPERIMENT=jsonv2 go test ./event -run '^$$' -bench 'BenchmarkDecode/(keysentry|encoding)' -benchmem

.PHONY: torture
torture: build ## break it and count (FAULT=kill|...|all ROUNDS=N EVENTS=N SEED=1 BROKER=kfake|kafka; OUTAGE=10m RATE=5000)
	$(BIN) torture --fault $(FAULT) --seed $(SEED) --broker $(BROKER) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(EVENTS),--events $(EVENTS)) \
	  $(if $(OUTAGE),--outage $(OUTAGE)) $(if $(RATE),--rate $(RATE))

.PHONY: quality
quality: build ## score detection on simulated networks with known attacks (SEEDS=1-3 SCENARIOS=FOLDER BENIGN_DAYS=N WRITE=docs/reference/quality.md)
	$(BIN) quality --seeds $(SEEDS) $(if $(SCENARIOS),--scenarios '$(SCENARIOS)') $(if $(BENIGN_DAYS),--benign-days $(BENIGN_DAYS)) $(if $(WRITE),--write '$(WRITE)')

.PHONY: cover
cover: deps ## test coverage by function, in coverage.out
	go test -timeout 20m -coverprofile coverage.out ./...
	go tool cover -func coverage.out | tail -n 1
