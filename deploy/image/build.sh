#!/usr/bin/env bash
# Makes an OCI image of a released binary, without a daemon and without a network: two runs give the same bytes.
#
#   build.sh DIST [ARCH] [NAME:TAG]     DIST: what "make release" has made; writes DIST/asiduo_image_ARCH.tar, of the name
#                                       that the chart of the release asks for if none is given
#
# Needs buildah. Its storage is below DIST only while it runs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dist=$(cd "$1" && pwd) arch=${2:-amd64} name=${3:-}
if [ -z "$name" ]; then
	name=asiduo:$(tar -xzOf "$dist/asiduo_chart.tgz" asiduo/Chart.yaml | sed -n 's/^appVersion: "\(.*\)"/\1/p' | tr + _)
fi

work=$(mktemp -d "$dist/.image.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/context/state"
cp "$dist/asiduo_linux_$arch" "$work/context/"
# Nothing may depend on when it was made.
find "$work/context" -exec touch -h -d @0 {} +
store=(--storage-driver vfs --root "$work/root" --runroot "$work/run")
buildah "${store[@]}" bud --isolation chroot --arch "$arch" --build-arg "TARGETARCH=$arch" --timestamp 0 --quiet \
	-f "$here/Dockerfile" -t "$name" "$work/context" >/dev/null
rm -f "$dist/asiduo_image_$arch.tar"
buildah "${store[@]}" push --quiet "$name" "oci-archive:$dist/asiduo_image_$arch.tar:$name"
echo "$dist/asiduo_image_$arch.tar"
