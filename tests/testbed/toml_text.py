"""Writes a dict as TOML: tables, arrays of tables, strings, numbers, booleans, arrays."""

import json
import pathlib
import re


def dumps(config):
    """TOML text of a (nested) dict."""
    lines = []
    _table(lines, config, [])
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(lines, table, path):
    subtables = {}
    for name, value in table.items():
        if isinstance(value, dict) or _is_table_array(value):
            subtables[name] = value
        else:
            lines.append(f"{_key(name)} = {_value(value)}")
    for name, value in subtables.items():
        inner = path + [_key(name)]
        for entry in value if isinstance(value, list) else [value]:
            brackets = ("[[", "]]") if isinstance(value, list) else ("[", "]")
            lines.append(f"\n{brackets[0]}{'.'.join(inner)}{brackets[1]}")
            _table(lines, entry, inner)


def _is_table_array(value):
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _key(name):
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, pathlib.Path)):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"TOML has no place for {type(value).__name__}")
