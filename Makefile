# Each target is what a person could type. make help lists them.

FUZZTIME    ?= 30s
VULNDB      ?=
# What defeats dead-code elimination adds 8 MB or more at once; this leaves less than 1 MB to grow.
BINARY_SIZE := 19000000

.PHONY: help build demo test torture faults lint fuzz vuln bench tools testrun clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

build: ## build bin/keystile, static, and check its size
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/keystile ./cmd/keystile
	@size=$$(wc -c < bin/keystile); test $$size -le $(BINARY_SIZE) || \
		{ echo "bin/keystile has $$size bytes, more than the $(BINARY_SIZE) allowed: which new import defeats dead-code elimination?" >&2; exit 1; }

demo: ## run proxy, admin and a sample generator on loopback
	go run ./cmd/keystile demo

test: testrun ## install what the tests need, then run all: with -race, then those that measure without it
	tools/install-needs.sh
	bin/testrun -whole -skips tools/allowed-skips.txt \
		-- -race -count=1 -timeout 30m ./... \
		-- -count=1 -p 1 -timeout 30m -run '^TestMeasured' ./... \
		-- -C tools -count=1 ./...

torture: ## run the tests that take long, one package after the other, and print their figures (about 50 minutes)
	tools/install-needs.sh torture
	go test -tags torture -run '^TestTorture' -count=1 -p 1 -timeout 90m -v ./...

faults: ## seed one small defect after the other into a copy: does a test fail for each? (about 2 minutes)
	tools/install-needs.sh
	go -C tools build -buildvcs=false -o ../bin/ ./faults
	bin/faults

lint: tools ## vet, staticcheck, gofumpt, tidy modules
	go vet ./...
	go vet -tags torture ./...
	go -C tools vet ./...
	bin/staticcheck ./...
	cd tools && ../bin/staticcheck ./...
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r bin/gofumpt -l) && test -z "$$unformatted" || \
		{ echo "not in gofumpt's form (mend: bin/gofumpt -w FILE):" >&2; echo "$$unformatted" >&2; exit 1; }
	go mod tidy -diff
	go -C tools mod tidy -diff

fuzz: ## run every fuzz target for FUZZTIME (30s) each
	tools/fuzz.sh $(FUZZTIME)

vuln: tools ## check for known vulnerabilities that are called; VULNDB=folder for an offline database
	bin/govulncheck -format json $(if $(VULNDB),-db=file://$(abspath $(VULNDB))) ./... > bin/vuln.json
	bin/vuln -known tools/vuln-known.txt bin/vuln.json

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

tools: ## build the repository's own tools and the pinned ones into bin
	go -C tools build -buildvcs=false -o ../bin/ tool ./testrun ./vuln

testrun:
	go -C tools build -buildvcs=false -o ../bin/ ./testrun

clean: ## remove bin
	rm -rf bin
