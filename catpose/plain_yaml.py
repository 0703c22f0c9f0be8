"""The one reader of YAML: plain values, bounded in size, depth and time, whoever wrote the text.

What differs from PyYAML's SafeLoader is what surprises people or takes a machine down: `1e-5` is a number, `1:30:00`
and `2026-01-01` are texts, a key given twice is an error; so are tags, numbers of thousands of digits, and aliases by
which a few lines grow to billions of values.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from catpose.errors import InputError, one_line

LARGEST_YAML = 200_000  # bytes; settings of `fit` have some three thousand
MOST_VALUES = 20_000  # in a text with its aliases written out
LONGEST_NUMBER = 40  # characters
DEEPEST_YAML = 200  # brackets inside one another
_TAG = "tag:yaml.org,2002:"
#: How 0.1.0 named its classes: backbones by where they were, codecs also by their names alone.
_FORMER_BACKBONE = re.compile(
    r"(^|=)catpose\.model\.(hrnet|mobilenet|pyramid|resnest|resnet|timm_backbone|vit)\.(?=[A-Z]\w*$)"
)
_FORMER_CODEC = re.compile(r"(^|=)(catpose\.model\.codec\.)(Classic|Unbiased)$")
_CODECS = {"Classic": "MSRAHeatmap", "Unbiased": "UDPHeatmap"}
_PLAIN = {_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


class _Loader(yaml.SafeLoader):
    """Plain values; built from nodes that `_require_plain` has passed."""

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = super().construct_yaml_float(node)
        if math.isinf(value) and "inf" not in node.value.lower():
            raise _error(node, f"{node.value} is beyond what a number can be")
        return value


class _Dumper(yaml.SafeDumper):
    """Writes texts that `_Loader` would take for numbers in quotes, and never an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind in (_Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.removeprefix(_TAG) in ("bool", "null", "merge")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _kind.add_implicit_resolver(
        _TAG + "float",
        re.compile(
            r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?$|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"
            r"|[-+]?\.[0-9][0-9_]*([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
        ),
        list("-+0123456789."),
    )
    _kind.add_implicit_resolver(
        _TAG + "int",
        re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
        list("-+0123456789"),
    )
_Loader.add_constructor(_TAG + "float", _Loader.construct_yaml_float)


def read_yaml(path: Path, remedy: str) -> Any:
    """What a YAML file holds.

    Args:
        remedy: what to do about a file that can't be read, for the message's end.

    Raises:
        InputError: missing, no regular file, unreadable, too large, no UTF-8, or not what `parse_yaml` reads.
    """
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "there is no such file"
            raise InputError(f"{path}: {what}; {remedy}")
        with path.open("rb") as file:
            content = file.read(LARGEST_YAML + 1)
        if len(content) > LARGEST_YAML:
            raise InputError(f"{path}: is larger than the {LARGEST_YAML // 1000} kB that YAML may have here; {remedy}")
        return parse_yaml(content.decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise InputError(f"{path}: is no text in UTF-8 (byte {error.start + 1}); {remedy}") from None
        raise InputError(f"{path}: can't be read ({getattr(error, 'strerror', error)}); {remedy}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {what_is_wrong(error)}; {remedy}") from None


def parse_yaml(text: str) -> Any:
    """A text's value: None, bool, int, float, str, and lists and mappings of them.

    Raises:
        yaml.YAMLError: no YAML, or more of it than plain values; `what_is_wrong` says it in one line.
    """
    if len(text) > LARGEST_YAML:
        raise yaml.YAMLError(f"more than {LARGEST_YAML} characters")
    depth = 0
    for bracket in re.findall(
        r"[\[\]{}]", text
    ):  # counted first: PyYAML looks a thousand of them ahead, again and again
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST_YAML:
            raise yaml.YAMLError("nested too deeply")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _require_plain(node, {})
        return current_names(loader.construct_document(node))
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a tag that doesn't suit its value
        raise yaml.YAMLError(f"a value that can't be read ({one_line(error)})") from None
    finally:
        loader.dispose()


def dump_yaml(value: Any) -> str:
    """Plain values as YAML, keys in their order; `parse_yaml` gives them back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as {"a.b.c": value}; `init_args` levels, which nobody types, are left out of the names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            flat.update(flatten(value, name))
        else:
            flat[name] = value
    return flat


def current_names(value: Any, key: str = "") -> Any:
    """Plain values in which classes have their names of now where they had those of 0.1.0.

    A codec's short name (`Classic`) is one only as the value of a `codec` or its `class_path`: elsewhere it is a text.
    """
    if isinstance(value, dict):
        return {name: current_names(part, str(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [current_names(part) for part in value]
    if not isinstance(value, str):
        return value
    if key.rsplit(".", 1)[-1] in ("codec", "class_path"):
        value = _CODECS.get(value, value)
    value = _FORMER_CODEC.sub(lambda found: f"{found[1]}{found[2]}{_CODECS[found[3]]}", value)
    return _FORMER_BACKBONE.sub(r"\1catpose.model.backbones.\2.", value)


def current_arguments(args: Sequence[str]) -> list[str]:
    """A command line in which classes have their names of now: `--model.codec=Classic`, `--model.codec Classic`."""
    current, option = [], ""
    for arg in args:
        name, equals, value = arg.rpartition("=")
        current.append(f"{name}{equals}{current_names(value, name or option)}")
        option = arg
    return current


def argument(key: str, value: object) -> str:
    """A setting as one argument of `fit`'s command line."""
    value = current_names(value, key)
    try:
        return f"--{key}={value if isinstance(value, str) else json.dumps(value, allow_nan=False)}"
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"{key}: {one_line(value)[:60]} can't be a setting; quote it to have it as text") from None


def what_is_wrong(error: yaml.YAMLError) -> str:
    """`is no YAML (line 3: …)`, or what else is wrong with it."""
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    problem = one_line(getattr(error, "problem", None) or error)
    return f"is no YAML of plain values ({line}{problem[:150]})"


def _require_plain(node: yaml.Node, sizes: dict[int, float]) -> float:
    """How many values a node has with its aliases written out.

    Args:
        sizes: those known so far, infinite while the node is being counted: met again, it is within itself.
    """
    if id(node) in sizes:
        if math.isinf(sizes[id(node)]):
            raise _error(node, "a value that holds itself")
        return sizes[id(node)]
    if node.tag not in _PLAIN:
        raise _error(node, f"the tag {node.tag.replace(_TAG, '!!')}")
    sizes[id(node)] = math.inf
    size = 1.0
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error(key, "a list or mapping as a key")
            size += _require_plain(key, sizes) + _require_plain(value, sizes)
        name, times = Counter(key.value for key, _ in node.value).most_common(1)[0] if node.value else ("", 1)
        if times > 1:
            raise _error(node, f"has {name[:60]} twice here or below; keep one")
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            size += _require_plain(part, sizes)
    elif node.tag in (_TAG + "int", _TAG + "float") and len(node.value) > LONGEST_NUMBER:
        raise _error(node, f"a number of {len(node.value)} characters")
    if size > MOST_VALUES:
        raise _error(node, f"more than {MOST_VALUES} values, its aliases written out")
    sizes[id(node)] = size
    return size


def _error(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
