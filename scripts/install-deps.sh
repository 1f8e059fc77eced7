#!/usr/bin/env bash
# Installs from Debian what a goal needs; does nothing where it is all there.
#
#   scripts/install-deps.sh build          compile
#   scripts/install-deps.sh test           ... and run every test
#   scripts/install-deps.sh kernels        ... and boot older kernels (make check-kernels)
#   scripts/install-deps.sh lint           ... and clang-format, clang-tidy
#   scripts/install-deps.sh demo | bench   ... and show or measure real images (and peers)
set -euo pipefail

build=(build-essential cmake ninja-build ccache pkg-config git
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libsqlite3-dev libssl-dev libzstd-dev zlib1g-dev libisal-dev libxxhash-dev libre2-dev
  libcurl4-openssl-dev nlohmann-json3-dev libcli11-dev libspdlog-dev
  libtomlplusplus-dev libyaml-cpp-dev libexpected-dev libcpp-httplib-dev libsystemd-dev
  libgtest-dev libgmock-dev libdeflate-dev)
run=(containerd runc docker-registry skopeo umoci debootstrap busybox-static
  erofs-utils e2fsprogs patchelf iproute2 ethtool attr libcap2-bin curl pigz zstd
  python3 python3-pytest python3-pytest-timeout python3-cryptography nodejs npm redis-server systemd)
bench=(stargz-snapshotter)
kernels=(qemu-system-x86 cpio kmod binutils)
lint=(clang clang-format clang-tidy)

case "${1:-build}" in
  build) want=("${build[@]}") ;;
  test | demo) want=("${build[@]}" "${run[@]}") ;;
  bench) want=("${build[@]}" "${run[@]}" "${bench[@]}") ;;
  kernels) want=("${build[@]}" "${run[@]}" "${kernels[@]}") ;;
  lint) want=("${build[@]}" "${lint[@]}") ;;
  *) echo "usage: $0 build|test|kernels|lint|demo|bench" >&2; exit 2 ;;
esac

missing=()
for package in "${want[@]}"; do
  [ "$package" = npm ] && command -v npm >/dev/null && continue
  [ "$package" = nodejs ] && command -v node >/dev/null && continue
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "needs root to install: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
# Services that these packages bring are started by the tests themselves.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
  "${sudo[@]}" chmod +x $policy
  trap '"${sudo[@]}" rm -f $policy' EXIT
fi
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
