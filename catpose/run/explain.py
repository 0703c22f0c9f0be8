"""What libraries say: jsonargparse's messages about a setting in one line, Lightning's needless ones left out.

That line says which setting, what it was given, and what it takes.

The patterns were written for the messages of jsonargparse 4.51 to 4.53, and each is held by
tests/run/test_explain.py. What none of them finds, in another version's message for example, is given in the library's
own words.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any

from catpose.errors import nearest, one_line

#: What other tools call a setting.
SYNONYMS = {
    **dict.fromkeys(("learning_rate", "lr0", "base_lr", "initial_lr"), "model.lr"),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "total_epochs"), "trainer.max_epochs"),
    **dict.fromkeys(("imgsz", "img_size", "image_size", "crop_size", "resolution"), "data.input_size"),
    **dict.fromkeys(("batch", "batchsize", "samples_per_gpu", "train_batch_size"), "data.batch_size"),
    **dict.fromkeys(("workers", "workers_per_gpu", "n_workers"), "data.num_workers"),
    **dict.fromkeys(("pretrained", "checkpoint", "load_from"), "model.weights"),
    **dict.fromkeys(("backbone", "network", "arch", "architecture"), "model"),
    **dict.fromkeys(("gpus", "device", "num_gpus"), "trainer.devices"),
    **dict.fromkeys(("amp", "fp16", "half"), "trainer.precision"),
    **dict.fromkeys(("seed", "random_seed"), "seed_everything"),
    **dict.fromkeys(("output", "output_dir", "work_dir", "save_dir", "project_dir"), "out"),
}

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
_KEY = r"(?:Parser key \"|Group ')([\w.]+)"
_UNKNOWN = r"(?:[Oo]ption '|[Uu]nrecognized arguments?: -*)([\w.-]+)"
_WRONG_CLASS = (
    r"Expected a dot import path string: (\S+)",
    r"Import path (\S+) does not correspond to a subclass",
    r"class_path '([^']*)': (?:module '[\w.]+' has no attribute|No module named)",
    r"(?:Import path does not correspond to a|Not a valid) subclass.*?Given value: (\S+)",
)
_VALUE = (r"Got value: (.*?)(?: - Expected|$)", r".*Subtypes:.*?Given value: (\S+)")


def explain(message: str, known: Mapping[str, Any], classes: Mapping[str, list[str]]) -> str:
    """One line on what jsonargparse found wrong.

    Args:
        message: its own, of many lines.
        known: each setting's dotted name and default, a model's being those of the model in question.
        classes: the names of the classes that a setting takes, where it takes one.
    """
    line = one_line(message).replace("init_args.", "").replace(".init_args", "")
    key = ".".join(dict.fromkeys(re.findall(_KEY, line)))
    unknown = re.search(_UNKNOWN, line)
    if unknown:
        model = re.search(r"class_path '(?:\w+\.)*(\w+)'", line) if key.startswith("model") else None
        name = unknown[1] if unknown[1].startswith(f"{key}.") or not key else f"{key}.{unknown[1]}"
        return _unknown_setting(name, key, known, f"--model.help {model[1]}" if model else "--help")
    wrong = _first(_WRONG_CLASS, line)
    if wrong and key:
        names = classes.get(key, [])
        remedy = nearest(wrong, names) or (f" There are {', '.join(names)}." if names else " See --help.")
        return f"{key}: there is no such class as {wrong}.{remedy}"
    if key in classes:
        return f"{key}: give the name of a class ({', '.join(classes[key])}) as class_path, its settings as init_args"
    value = _first(_VALUE, line)
    if value and key:
        default = known.get(key)
        such_as = "" if default in (None, "") or "Literal" in line else f", such as {_in_yaml(default)}"
        return f"{key}: {'null' if value == 'None' else value[:80]} can't be used; give {_taken(line)}{such_as}"
    missing = re.search(r"(?:File does not exist|Path is not a file): '(.*?)'", line)
    if missing:
        return f"--config {missing[1]}: there is no such file; name a YAML file, such as one of experiments/"
    if "Unexpected config" in line:
        return f"{key + ': ' if key else ''}holds no settings; write them as NAME: VALUE, see experiments/"
    return f"{key}: {line[:200]} (see --help)" if key and key not in line else f"{line[:200]} (see --help)"


def _unknown_setting(name: str, group: str, known: Mapping[str, Any], everything: str) -> str:
    """The line on a setting that isn't there: what it is called here, else the nearest of its group.

    Args:
        name: dotted.
        everything: the option that lists all.
    """
    synonym = SYNONYMS.get(name.rsplit(".", 1)[-1].lower().replace("-", "_"))
    within = [setting for setting in known if setting.startswith(f"{group}." if group else "")]
    hint = f" Did you mean {synonym}?" if synonym else nearest(name, within)
    return f"unknown setting {name}.{hint or f' See {everything} for all.'}"


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
    options: list[str] = []
    for literal in re.findall(r"typing\.Literal\[(.*?)\]", types):
        options += [item.strip(" '\"") for item in literal.split(",")]
    options += [option for name, option in _WORDS.items() if name in types]
    options += ["a list" for _ in re.findall(r"\b(?:list|tuple)\[", types)]
    options += ["a mapping" for _ in re.findall(r"\bdict\[", types)]
    options = list(dict.fromkeys(options)) or ["another value (see --help)"]
    return " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]


#: How Lightning's lines begin that advertise, or tell of hardware that isn't there.
_NEEDLESS = ("💡", "GPU available: False", "TPU available", "HPU available", "`Trainer.fit` stopped")


class _Needed(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_NEEDLESS)


_NEEDED = _Needed()


def quieten() -> None:
    """From here on Lightning logs neither advertisements nor what isn't there; a second call changes nothing."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}.utilities.rank_zero").addFilter(_NEEDED)
    warnings.filterwarnings("ignore", ".*`srun` command is available.*")
