# Tiers of tests, from the fastest to the longest. CONTRIBUTING.md says what each needs.

GO ?= go
CASES ?=

.PHONY: test vectors sim lint conformance kafka-test security-test upgrade-test docs-test deploy-test chaos mutants bench bench-full bench-workloads bench-growth benchmarks nightly build fuzz release image

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/asiduo ./cmd/asiduo

# Binaries, archives, bills of materials and checksums of a clean commit: make release VERSION=1.2.3
VERSION ?=
release:
	$(GO) run ./deploy/release -version "$(VERSION)" -out dist

# The image of the released binary for this machine: needs buildah.
image: release
	bash deploy/image/build.sh dist "$$($(GO) env GOARCH)"

# Everything that needs only Go. The tag makes the Kafka client's locks visible to testing/synctest.
test:
	$(GO) vet -tags synctests ./...
	GORACE=suppressions=$(CURDIR)/.ci/race.suppressions $(GO) test -race -shuffle=on -tags synctests -timeout 25m ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not formatted: run gofmt -w ."; exit 1; }
	@for p in .ci/mutants/*.patch; do git apply --check $$p || { echo "$$p no longer applies: adapt it"; exit 1; }; done
	$(GO) mod tidy -diff
	$(GO) vet -tags "synctests kafka deploy" ./...
	cd bench/peers && $(GO) mod tidy -diff && $(GO) vet ./...
	cd bench/plot && $(GO) mod tidy -diff && $(GO) vet ./... && $(GO) test ./...
	$(GO) tool -modfile=.ci/tools.mod staticcheck -tags "synctests kafka deploy" ./...
	$(GO) tool -modfile=.ci/tools.mod gosec -quiet -exclude=G304 -exclude-dir=bench/peers -exclude-dir=bench/plot ./... # G304: whoever starts us names our files; no record or request does

# Every conformance case in every way that must not be seen, on the embedded broker; CASES=DIR for another directory.
conformance:
	bash .ci/conformance.sh $(CASES)

# Against a real Apache Kafka, which deploy/kafka/kafka.sh fetches and starts: needs Java 17 and Maven.
kafka-test:
	bash .ci/kafka-test.sh

# Logins, certificates and access rights, against a real Kafka that asks who is there: needs openssl too.
security-test:
	bash .ci/kafka-test.sh security

# Processes are changed to this release and back to a former one while orders come: FORMER=REV, default the commit before.
upgrade-test:
	FORMER=$(FORMER) bash .ci/kafka-test.sh upgrade

# The models against golden values; VECTORS=FILE for another file in the format of state/model/testdata/README.md.
VECTORS ?=
vectors:
	ASIDUO_VECTORS="$(if $(VECTORS),$(abspath $(VECTORS)))" $(GO) test -count=1 -v -run '^TestVectors$$' ./state/model

# What the pages say: the reference and the events against the code, every command and configuration parsed, those of README's proof, of
# docs/operating.md and of docs/subscribing.md done.
docs-test:
	$(GO) test -count=1 -run '^(TestReference|TestPages|TestSubscribing|TestOperatingPage|TestSecurityPage|TestProveIt)$$' ./cmd/asiduo
	bash .ci/kafka-test.sh '^TestKafka(Docs|Readme)$$'

# What lies in deploy, with the real parts: needs root, Java 17, Maven and Python 3; installs the rest.
deploy-test:
	bash .ci/deploy-test.sh

# Three processes under faults of processes, brokers and the network between them; SEED=n draws the same faults again.
# BROKERS=3: with replicas. KEEP=DIR: where the logs of the processes are to go. FAULTS=freezes: only brokers that stand still
# for a little less than their session, on which Kafka 4 loses markers of transactions.
CHAOS ?= 15m
BROKERS ?= 1
FAULTS ?=
chaos:
	CHAOS=$(CHAOS) SEED=$(SEED) BROKERS=$(BROKERS) FAULTS=$(FAULTS) KEEP=$(KEEP) bash .ci/kafka-test.sh chaos

# Whole pipelines under faults in virtual time, one seed after the other: SEEDS of them from START on; SEED=n repeats
# one. What a seed that fails has done is printed, and kept with everything else in SIM_DIR.
SEEDS ?= 1000
START ?= 1
SEED ?=
SIM_DIR ?= $(CURDIR)/bin/sim
sim:
	cd pipeline && SEEDS=$(SEEDS) START=$(START) SEED=$(SEED) SIM_DIR=$(SIM_DIR) $(GO) test -tags synctests -count=1 -timeout 2h -run '^TestSim$$'

# Every fuzz target, one after the other, FUZZTIME of CPU each on at most two cores.
FUZZTIME ?= 10s
fuzz:
	FUZZTIME=$(FUZZTIME) bash .ci/fuzz.sh

# Every planted bug must be caught.
mutants:
	bash .ci/mutants.sh

# asiduo beside Kafka Streams, Flink and two yardsticks on one job and one real Kafka: needs Linux, Java 17 and Maven.
# PEERS=asiduo,raw for some of them.
EVENTS ?= 1000000
PEERS ?=
bench:
	$(GO) run ./bench/compare -events $(EVENTS) $(if $(PEERS),-peers $(PEERS))

# All of it at full size: two hours on a quiet machine with 40 GB of room.
bench-full:
	$(GO) run ./bench/compare -events 5000000 -customers 1000000 -rounds 3
	$(MAKE) bench-workloads WORKLOADS=retail,uniform EVENTS=20000000 CUSTOMERS=10000000
	$(MAKE) bench-workloads WORKLOADS=idle,snapshot EVENTS=10000000 CUSTOMERS=10000000
	$(MAKE) bench-workloads WORKLOADS=restore,storm,latency,scaling EVENTS=2000000 CUSTOMERS=1000000
	$(MAKE) bench-growth EVENTS=500000 CUSTOMERS=10000000

# asiduo alone over loads that each show another of its costs, on a real Kafka, with the goals beside: bench/README.md. WORKLOADS=retail,storm
# for some of them, WORKLOADS=growth CURVES=orders,cycle for some of the curves of growth.
CUSTOMERS ?= 200000
WORKLOADS ?=
CURVES ?=
bench-workloads:
	$(GO) run ./bench/workloads -events $(EVENTS) -customers $(CUSTOMERS) $(if $(WORKLOADS),-workloads $(WORKLOADS)) $(if $(CURVES),-curves $(CURVES))

# The curves of growth, as bench/growth.csv and bench/growth.png.
bench-growth:
	$(GO) run ./bench/workloads -workloads growth -events $(EVENTS) -customers $(CUSTOMERS) -csv bench/growth.csv
	cd bench/plot && $(GO) run . ../growth.csv ../growth.png

# Every benchmark of the code once; ASIDUO_EVENTS=20000 for a short one.
benchmarks:
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./...

# The long campaigns.
nightly: conformance mutants sim chaos deploy-test upgrade-test
	$(MAKE) chaos BROKERS=3
	$(MAKE) chaos FAULTS=freezes CHAOS=5m
	$(MAKE) fuzz FUZZTIME=10m
	rm -rf bin/nightly && $(GO) run ./deploy/release -version 0.0.1-nightly -dirty -out bin/nightly
	cd bin/nightly && sha256sum --check --strict --quiet SHA256SUMS
	ASIDUO_HOSTILE=full $(GO) test -tags synctests -count=1 -timeout 2h -run '^Test(MillionOrders|FullCustomer|ManyInteractions)$$' ./pipeline
	ASIDUO_POINTS=1000000 $(GO) test -count=1 -timeout 2h -run '^TestDomain$$' ./state/model
	RAPID_CHECKS=20000 $(GO) test -tags synctests -count=1 -timeout 2h ./state/... ./pipeline/...
	$(GO) test -tags synctests -count=1 -timeout 2h -run SimulatePlaysAsTheOracle ./cmd/asiduo -rapid.checks=5000
