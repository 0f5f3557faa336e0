# make test     every test, installing what it needs
# make check    formatting, vet, staticcheck, tidiness, freshness of generated files
# make long     the long forms of the crash, fuzz and model campaigns
# make bench    the figures of bench/RESULTS.md
# make sdk      the TypeScript SDK and its tests, in Node and in a browser (part of make test)
# make web      the dashboard into web/dist, which is checked in and embedded
# make build    both binaries into bin/

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
GO ?= go
# Packages that must work when only FIPS 140 approved cryptography is allowed.
FIPS := ./internal/aead ./internal/keyring ./internal/kms ./cmek ./cmek/keyshare
FUZZTIME ?= 1000x
# Packages whose tests speak to a whole server: they run with the key process
# inside it, behind a socket (but for the commands, to which it is the same) and behind
# mutual TLS, and with their stores in PostgreSQL, as the models of threads and vaults do.
SERVED := ./client ./internal/generationc ./internal/server ./keyfoldtest

# The first run is the whole, and so is the one on PostgreSQL. Under -race and with the
# key process behind a socket tests are -short: models take fewer turns, and tests are
# left out that make one call after another, tens of thousands of them.
.PHONY: test sdk web check long bench build deps
test: deps
	$(GO) test -timeout 1h ./...
	$(GO) test -vet=off -timeout 1h -race -short $$($(GO) list ./... | grep -v /test/)
	KEYFOLD_TEST_KMS=socket $(GO) test -vet=off -timeout 1h -short $(SERVED)
	KEYFOLD_TEST_KMS=mtls KEYFOLD_TEST_STORE=postgres $(GO) test -vet=off -timeout 1h $(SERVED) ./cmd/keyfold
	KEYFOLD_TEST_KMS=mtls KEYFOLD_TEST_STORE=postgres $(GO) test -vet=off -run 'TheirModel|TheModel' ./internal/thread ./internal/vault
	KEYFOLD_TEST_KMS=socket $(GO) test -vet=off -run TheirModel ./internal/thread
	GODEBUG=fips140=only $(GO) test -vet=off -count=1 $(FIPS)
	cd test/wycheproof && $(GO) test -count=1 ./...
	cd deploy/check && $(GO) test -count=1 ./...
	scripts/fuzz.sh $(FUZZTIME)
	scripts/sdk.sh
	scripts/web.sh

sdk:
	scripts/sdk.sh

web:
	scripts/web.sh build

check:
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run: gofmt -w ." >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff
	cd test/wycheproof && $(GO) vet ./... && $(GO) mod tidy -diff
	cd deploy/check && $(GO) vet ./... && $(GO) mod tidy -diff
	scripts/fresh.sh

long:
	@scripts/deps.sh long
	KEYFOLD_LONG=1 $(GO) test -timeout 2h ./...
	KEYFOLD_LONG=1 KEYFOLD_TEST_POSTGRES_BIN=$$(scripts/postgres18.sh) $(GO) test -timeout 1h -count=1 ./internal/store/pgstore
	cd deploy/check && KEYFOLD_LONG=1 $(GO) test -count=1 ./...
	scripts/fuzz.sh 5m

bench:
	bench/run.sh

build:
	mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ ./cmd/keyfold
	$(GO) build -trimpath -ldflags "-s -w" -o bin/ ./cmd/keyfold-kms # with cgo, for PKCS#11

deps:
	@scripts/deps.sh
