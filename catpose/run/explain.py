"""jsonargparse's messages about a setting, in one line: which setting, what it was given, what it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from catpose.errors import nearest, one_line

#: What a setting takes, in words, by how jsonargparse names its type.
_WORDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'tuple'>": "a list",
    "<class 'list'>": "a list",
    "<class 'dict'>": "a mapping",
    "<class 'NoneType'>": "null",
}
_WRONG_CLASS = (
    r"Expected a dot import path string: (\S+)",
    r"Import path (\S+) does not correspond to a subclass",
    r"class_path '([^']*)': (?:module '[\w.]+' has no attribute|No module named)",
    r"Import path does not correspond to a subclass.*?Given value: (\S+)",
    r"Not a valid subclass of.*?Given value: (\S+)",
)
_UNKNOWN = (
    r"[Oo]ption '([\w.-]+)' is not accepted",
    r"does not accept option '([\w.-]+)'",
    r"[Uu]nrecognized arguments?: -*([\w.-]+)",
)


def explain(message: str, known: Mapping[str, Any], classes: Mapping[str, list[str]]) -> str:
    """One line on what jsonargparse found wrong.

    Args:
        message: its own, of many lines.
        known: each setting's dotted name and default, a model's being those of the model in question.
        classes: the names of the classes that a setting takes, where it takes one.
    """
    line = one_line(message).replace("init_args.", "").replace(".init_args", "")
    key = ".".join(dict.fromkeys(re.findall(r'Parser key "([\w.]+)"', line) or re.findall(r"Group '([\w.]+)'", line)))
    unknown = _first(_UNKNOWN, line)
    if unknown:
        name = unknown if unknown.startswith(f"{key}.") or not key else f"{key}.{unknown}"
        within = [setting for setting in known if setting.startswith(f"{key}." if key else "")]
        model = re.search(r"class_path '(?:[\w]+\.)*(\w+)'", line) if key.startswith("model") else None
        all_of_them = f" See --model.help {model[1]} for all." if model else " See --help for all."
        return f"unknown setting {name}.{nearest(name, within) or all_of_them}"
    wrong = _first(_WRONG_CLASS, line)
    if wrong and key:
        names = classes.get(key, [])
        remedy = nearest(wrong, names) or (f" There are {', '.join(names)}." if names else " See --help.")
        return f"{key}: there is no such class as {wrong}.{remedy}"
    if key in classes:
        return f"{key}: give the name of a class ({', '.join(classes[key])}) as class_path, its settings as init_args"
    value = re.search(r"Got value: (.*?)(?: - Expected|$)", line) or re.search(
        r".*Subtypes:.*?Given value: (\S+)", line
    )
    if value and key:
        given = {"None": "null"}.get(value[1], value[1][:80])
        default = known.get(key)
        such_as = "" if default in (None, "") or "Literal" in line else f", such as {_in_yaml(default)}"
        return f"{key}: {given} can't be used; give {_taken(line)}{such_as}"
    missing = re.search(r"(?:File does not exist|Path is not a file): '(.*?)'", line)
    if missing:
        return f"--config {missing[1]}: there is no such file; name a YAML file, such as one of experiments/"
    if "Unexpected config" in line or "Unable to load config" in line:
        return f"{key + ': ' if key else ''}holds no settings; write them as NAME: VALUE, see experiments/"
    if "Problems parsing config" in line:
        return line.replace("Problems parsing config", "is no YAML of plain values")[:250]
    return f"{key}: {line[:200]} (see --help)" if key and key not in line else f"{line[:200]} (see --help)"


def _first(patterns: tuple[str, ...], line: str) -> str | None:
    return next((found[1] for pattern in patterns if (found := re.search(pattern, line))), None)


def _in_yaml(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def _taken(line: str) -> str:
    """The types that a setting takes, in words: those of the innermost list of them."""
    got = line.rfind("Got value")
    if got >= 0:
        types = line[line.rfind("Expected a ", 0, got) : got]
    else:
        start = line.rfind("Subtypes:")
        types = line[start : line.find("Errors:", start)]
    count = re.search(r"tuple with (\d+) elements", types)
    if count:
        return f"a list of {count[1]} values"
    words: list[str] = []
    for literal in re.findall(r"typing\.Literal\[(.*?)\]", types):
        words += [item.strip(" '\"") for item in literal.split(",")]
    words += [word for name, word in _WORDS.items() if name in types]
    words += ["a list" for _ in re.findall(r"\b(?:list|tuple)\[", types)]
    words += ["a mapping" for _ in re.findall(r"\bdict\[", types)]
    words = list(dict.fromkeys(words)) or ["another value (see --help)"]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
