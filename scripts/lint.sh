#!/usr/bin/env bash
# clang-format over everything, clang-tidy over what differs from main (or all
# with --all).
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run --Werror
cmake --preset release >/dev/null
ninja -C build -t query all >/dev/null
if [ "${1:-}" = --all ]; then
  files=$(git ls-files 'src/*.cpp' 'apps/*.cpp')
else
  files=$(git diff --name-only --diff-filter=d "$(git merge-base HEAD main)" -- 'src/*.cpp' 'apps/*.cpp')
fi
[ -z "$files" ] || echo "$files" | xargs -n 4 -P "$(nproc)" clang-tidy -p build --quiet
