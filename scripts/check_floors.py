#!/usr/bin/env python3
"""Fails where a source file includes a folder that is not on a lower floor.

The order of the floors is PAGEIN_FLOORS in CMakeLists.txt; folders named on
one line there stand on one floor but may still only include those before them.
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
floors = re.search(r"set\(PAGEIN_FLOORS([^)]*)\)", (root / "CMakeLists.txt").read_text()).group(1).split()
rank = {name: i for i, name in enumerate(floors)}
bad = []
for path in sorted((root / "src").rglob("*")):
    if path.suffix not in (".h", ".cpp"):
        continue
    own = path.relative_to(root / "src").parts[0]
    if own not in rank:
        bad.append(f"{path}: folder {own} is not in PAGEIN_FLOORS")
        continue
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        m = re.match(r'\s*#\s*include\s*"([^/"]+)/', line)
        if m and m.group(1) in rank and rank[m.group(1)] > rank[own]:
            bad.append(f"{path.relative_to(root)}:{number}: src/{own} must not include {m.group(1)}/")
print("\n".join(bad) if bad else "floors: every include goes down")
sys.exit(1 if bad else 0)
