#!/usr/bin/env bash
# clang-format over everything, clang-tidy over what differs from main (or all
# with --all; the static analyzer makes that take an hour).
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run --Werror
[ -e build/build.ninja ] || cmake --preset release >/dev/null
# clang-tidy reads what protoc writes.
mapfile -t generated < <(ninja -C build -t targets all | sed -n 's/^\(.*\.pb\.h\): .*/\1/p')
ninja -C build "${generated[@]}" >/dev/null
if [ "${1:-}" = --all ]; then
  files=$(git ls-files 'src/*.cpp' 'apps/*.cpp')
else
  base=$(git merge-base HEAD main 2>/dev/null || git merge-base HEAD origin/main)
  files=$(git diff --name-only --diff-filter=d "$base" -- 'src/*.cpp' 'apps/*.cpp')
fi
[ -z "$files" ] || echo "$files" | xargs -n 4 -P "$(nproc)" clang-tidy -p build --quiet
