# Tiers of tests, from the fastest to the longest. CONTRIBUTING.md says what each needs.

GO ?= go
CASES ?=

.PHONY: test sim lint conformance kafka-test mutants bench nightly build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/asiduo ./cmd/asiduo

# Everything that needs only Go. The tag makes the Kafka client's locks visible to testing/synctest.
test:
	$(GO) vet -tags synctests ./...
	$(GO) test -race -shuffle=on -tags synctests -timeout 10m ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not formatted: run gofmt -w ."; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet -tags "synctests kafka" ./...
	$(GO) tool -modfile=.ci/tools.mod staticcheck -tags "synctests kafka" ./...

# Every conformance case in every way that must not be seen, on the embedded broker; CASES=DIR for another directory.
conformance:
	bash .ci/conformance.sh $(CASES)

# Against a real Apache Kafka, which deploy/kafka/kafka.sh fetches and starts: needs Java 17 and Maven.
kafka-test:
	bash .ci/kafka-test.sh

# Whole pipelines under faults in virtual time, one seed after the other; SEED=n repeats one.
SEEDS ?= 1000
sim:
	SEEDS=$(SEEDS) $(GO) test -tags synctests -count=1 -timeout 2h -run '^TestSim$$' ./pipeline

# Every planted bug must be caught.
mutants:
	bash .ci/mutants.sh

# ASIDUO_EVENTS=20000 for a short one.
bench:
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./...

# The long campaigns.
nightly: conformance mutants sim
	RAPID_CHECKS=20000 $(GO) test -tags synctests -count=1 -timeout 2h ./state/... ./pipeline/...
	$(GO) test -tags synctests -count=1 -timeout 2h -run SimulatePlaysAsTheOracle ./cmd/asiduo -rapid.checks=5000
