#!/usr/bin/env python3
"""Fails where docs/cli.md, the man pages and the configuration's documents have drifted from the programs.

    scripts/check_docs.py PAGEIN PAGEIND

Every command and option of --help, with its default, is in the command's section of docs/cli.md and in its man page, and
no option is there that --help does not know; every key of deploy/pageind.toml is in docs/configuration.md and
pageind.toml(5), with its default, and the daemon takes the file.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAN = ROOT / "docs/man"
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])\b(?!-)")
REGISTRY = {"--plain-http", "--ca-file", "--docker-config", "--hosts-dir", "--credential-provider-config",
            "--credential-provider-bin-dir"}
# Of the whole program, described once.
COMMON = {"-h", "--help", "--version", "-v", "--verbose"}
# Options of other programs in examples.
FOREIGN = {"-u"}
bad = []


def say(condition, text):
    if not condition:
        bad.append(text)


def help_of(program, *words):
    return subprocess.run([program, *words, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout


def options_of(text):
    """{option: default or None} of a help text."""
    found = {}
    for line in text.partition("\nOptions:\n")[2].splitlines():
        if not line.startswith("  -"):
            if line and not line.startswith("  "):
                break
            continue
        names = line.split()[0].split(",")
        default = re.search(r"(?:TEXT|INT|FLOAT)[^\s=]*(?: in \[[^]]*\]|:\{[^}]*\})?=(\S+)", line)
        for name in names:
            found[name] = default.group(1) if default else None
    return found


def commands_of(text):
    return re.findall(r"^  (\w+)  ", text.partition("\nSubcommands:\n")[2], re.MULTILINE)


def man_text(name):
    return (MAN / name).read_text().replace("\\-", "-")


def sections(markdown):
    """{heading: body} of the "## " headings."""
    parts = re.split(r"^## (.*)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def check_command(name, text, section, man, man_name):
    options = options_of(text)
    say(options, f"{name} --help lists no options")
    documented = set(OPTION.findall(section)) | COMMON
    if "registry's options" in section:
        documented |= REGISTRY
    for option, default in options.items():
        say(option in documented, f"docs/cli.md: {name}: {option} is missing")
        say(option in OPTION.findall(man), f"{man_name}: {option} of {name} is missing")
        if default:
            say(default in section, f"docs/cli.md: {name}: {option}'s default {default} is missing")
            say(default in man, f"{man_name}: {option}'s default {default} is missing")
    for option in documented - set(options) - COMMON - FOREIGN:
        # What an example passes to ctr.
        say(option == "--snapshotter", f"docs/cli.md: {name} has no {option}")


def check_commands(pagein, pageind):
    by_heading = sections((ROOT / "docs/cli.md").read_text())
    commands = commands_of(help_of(pagein))
    say(len(commands) > 5, "pagein --help lists no commands")
    for command in commands:
        section = next((body for heading, body in by_heading.items() if f"pagein {command}" in heading.replace(", ", " ")
                        or heading.endswith(f"pagein {command}")), "")
        say(section, f"docs/cli.md has no section on pagein {command}")
        man_name = f"pagein-{command}.1" if (MAN / f"pagein-{command}.1").exists() else "pagein.1"
        check_command(f"pagein {command}", help_of(pagein, command), section, man_text(man_name), man_name)
        say(re.search(rf"^\.B pagein {command}$", man_text("pagein.1"), re.MULTILINE), f"pagein.1: {command} is missing")
    common = by_heading["What all of `pagein` has in common"]
    for option in set(options_of(help_of(pagein))) | REGISTRY:
        say(option in OPTION.findall(common), f"docs/cli.md: pagein: {option} is missing")
        say(option in OPTION.findall(man_text("pagein.1")), f"pagein.1: {option} is missing")
    check_command("pageind", help_of(pageind), by_heading["pageind"], man_text("pageind.8"), "pageind.8")


def check_configuration(pageind):
    example = ROOT / "deploy/pageind.toml"
    answer = subprocess.run([pageind, "--check-config", "--config", example], capture_output=True, text=True, timeout=60)
    say(answer.returncode == 0, f"pageind does not take deploy/pageind.toml: {answer.stderr}")
    manual = re.findall(r"^\| `([\w.]+)` \| (\S+)", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    markdown = {key: "" if value == "empty" else value.strip("`") for key, value in manual}
    page, section = {}, ""
    for line in man_text("pageind.toml.5").replace("\\(dq", '"').splitlines():
        if m := re.match(r"\.SS \[(\w+)\]", line):
            section = m.group(1) + "."
        elif m := re.match(r'\.BR (\w+) " = (.*)"$', line):
            page[section + m.group(1)] = m.group(2).strip('"')
    settings, section = {}, ""
    for line in example.read_text().splitlines():
        if m := re.match(r"\[(\w+)\]", line):
            section = m.group(1) + "."
        elif m := re.match(r"(\w+) = (\"[^\"]*\"|[^#]*)", line):
            settings[section + m.group(1)] = m.group(2).strip().strip('"')
    say(len(settings) > 10, "deploy/pageind.toml has no settings")
    for name, described in ("docs/configuration.md", markdown), ("pageind.toml.5", page):
        for key in sorted(settings.keys() | described.keys()):
            say(settings.get(key) == described.get(key),
                f"{name}: {key} is {described.get(key)!r}, in deploy/pageind.toml {settings.get(key)!r}")


def main():
    pagein, pageind = sys.argv[1:]
    check_commands(pagein, pageind)
    check_configuration(pageind)
    print("\n".join(bad) if bad else "docs: commands, options and settings are described")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
