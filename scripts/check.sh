#!/usr/bin/env bash
# Runs every test of a finished build and prints the totals as its last line:
# unit tests and fuzz seeds (ctest), the floors scan, and the black-box tests
# against the real containerd, runc and registry (pytest).
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0

ctest --test-dir build -j "$(nproc)" --output-on-failure --output-junit "$out/ctest.xml" || failed=1
# The images first: building them may take minutes, which is no test's time.
(cd tests && /usr/bin/python3 -c '
from images import catalogue
for name in catalogue.NAMES:
    reason = catalogue.missing(name)
    print(f"image {name}: {reason or catalogue.layout(name)}", flush=True)
') || failed=1
timeout -k 60 2700 /usr/bin/python3 -m pytest tests/blackbox --junitxml="$out/pytest.xml" --durations=10 || failed=1

/usr/bin/python3 - "$out" <<'PY' || failed=1
import pathlib, sys
import xml.etree.ElementTree as tree

passed = bad = skipped = 0
for name in ("ctest.xml", "pytest.xml"):
    path = pathlib.Path(sys.argv[1]) / name
    if not path.exists():
        print(f"no result file {name}: its runner did not finish")
        bad += 1
        continue
    for case in tree.parse(path).getroot().iter("testcase"):
        status = case.get("status")
        if case.find("failure") is not None or case.find("error") is not None or status == "fail":
            bad += 1
        elif case.find("skipped") is not None or status in ("notrun", "disabled"):
            skipped += 1
            reason = case.find("skipped")
            print("SKIP", case.get("name"), "-", (reason.get("message") or "") if reason is not None else "")
        else:
            passed += 1
print(f"{passed} passed, {bad} failed, {skipped} skipped")
sys.exit(1 if bad or not passed else 0)
PY
exit $failed
