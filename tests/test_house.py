"""The house's order: imports without a circle, short functions, nothing unused, docstrings a caller can work from."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import catpose

PACKAGE = Path(catpose.__file__).parent
FILES = {
    ".".join(["catpose", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}

#: Their arguments come from a configuration file, and they are named there.
CONFIGURED = {"PoseModel", "CatDataModule", "Codec", "Augmentation"}
#: Lines of a function.
LONGEST = 60
#: What is older than these checks; the numbers only ever fall.
LEFT = {
    "long functions": 0,
    "unused names": 0,
    "parameters never passed": 1,
    "without a docstring": 0,
    "arrays without a shape": 0,
}
#: Participles and the like, which say nothing of what a variable is.
VAGUE = {"asked", "given", "kept", "made", "said", "there", "told"}
#: A shape such as (N, 17, 2) or (h, w), or a unit.
SHAPE_OR_UNIT = re.compile(
    r"\([^()\s][^()]{0,40},[^()]{0,40}\)|\((?:[BNnK]|\d+),?\)|\b(?:px|scalar|seconds|any shape)\b"
)


class Function(NamedTuple):
    """A function or method: where it is, its syntax, the class it belongs to, the object itself."""

    module: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: type | None
    value: Any

    def __str__(self) -> str:
        return f"{self.module}.{f'{self.owner.__name__}.' if self.owner else ''}{self.node.name}"

    @property
    def inherited(self) -> bool:
        """Whether a base class decides its name and signature."""
        return self.owner is not None and any(self.node.name in vars(base) for base in self.owner.__mro__[1:])

    @property
    def configured(self) -> bool:
        return any(base.__name__ in CONFIGURED for base in (self.owner.__mro__ if self.owner else ()))


@cache
def trees() -> dict[str, ast.Module]:
    return {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}


@cache
def functions() -> list[Function]:
    """Every function and method that a module defines at its top or in a class there, but for nested ones."""
    found = []
    for module, tree in trees().items():
        for node in tree.body:
            value = getattr(importlib.import_module(module), getattr(node, "name", ""), None)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append(Function(module, node, None, value))
            elif isinstance(node, ast.ClassDef) and isinstance(value, type):
                methods = (each for each in node.body if isinstance(each, ast.FunctionDef))
                found += [Function(module, each, value, vars(value)[each.name]) for each in methods]
    return found


def public_functions() -> Iterator[Function]:
    for function in functions():
        names = (function.node.name, function.owner.__name__ if function.owner else "")
        if not any(name.startswith("_") for name in names) and ast.unparse(function.node.body[0]) != "...":
            yield function


@cache
def imported(module: str) -> set[str]:
    """The package's modules that one names in any import, inside functions and for types alone too."""
    named: set[str] = set()
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = {f"{node.module}.{alias.name}" for alias in node.names} & FILES.keys()
            named |= within or {node.module}
    return named & FILES.keys() - {module}


def uses(tree: ast.AST) -> Counter[str]:
    """Names and attributes that a syntax tree reads, and identifiers in its strings."""
    counts: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            counts[node.id] += 1
        elif isinstance(node, ast.Attribute):
            counts[node.attr] += 1
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            counts[node.value] += 1
    return counts


@cache
def used_in(module: str) -> Counter[str]:
    """As `uses`, with what the public surface exports and what the page's template names."""
    counts = uses(trees()[module])
    if module == "catpose":
        counts.update(
            alias.name for node in trees()[module].body if isinstance(node, ast.ImportFrom) for alias in node.names
        )
    for page in FILES[module].parent.glob("*.html"):
        counts.update(re.findall(r"\w+", page.read_text(encoding="utf-8")))
    return counts


def is_used(module: str, node: ast.AST, name: str, anywhere: bool = False) -> bool:
    """Whether anything but its own definition uses a name: its module, and those that import it or, if said, any."""
    others = (other for other in trees() if other != module and (anywhere or module in imported(other)))
    return used_in(module)[name] > uses(node)[name] or any(used_in(other)[name] for other in others)


def calls() -> dict[str, list[ast.Call]]:
    """All calls in the package, by the called function's name; partial(f, …) and a table's entry are calls of f."""
    found: dict[str, list[ast.Call]] = defaultdict(list)
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called, arguments = node.func, node.args
                if getattr(called, "id", "") == "partial":
                    called, arguments = node.args[0], node.args[1:]
                name = getattr(called, "id", None) or getattr(called, "attr", "")
                found[name].append(ast.Call(called, arguments, node.keywords))
            elif isinstance(node, ast.Dict):  # functions in a table, which is called by its keys
                for value in node.values:
                    if isinstance(value, ast.Name):
                        found[value.id].append(ast.Call(value, [], [ast.keyword(None, value)]))
    return found


def optional_parameters(function: Function) -> Iterator[tuple[str, int | None]]:
    """Those with a default: name and place among a call's positional arguments, if they may be given so."""
    arguments = function.node.args
    bound = function.owner is not None and not isinstance(function.value, staticmethod)
    positional = [*arguments.posonlyargs, *arguments.args][bound:]
    for place, argument in enumerate(positional):
        if place >= len(positional) - len(arguments.defaults):
            yield argument.arg, place
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            yield argument.arg, None


def passes(call: ast.Call, name: str, place: int | None) -> bool:
    """Whether a call gives a parameter, or may: by *args or **kwargs."""
    if any(keyword.arg in (name, None) for keyword in call.keywords):
        return True
    return place is not None and (len(call.args) > place or any(isinstance(each, ast.Starred) for each in call.args))


def is_offered(function: Function) -> bool:
    """To other programs (`catpose.__all__`, and what `load` returns), which use more of it than the package does."""
    offered = {*catpose._MODULES.items(), ("Predictor", "catpose.run.predictor")}
    return (function.owner.__name__ if function.owner else function.node.name, function.module) in offered


def require_at_most(kind: str, found: list[str]) -> None:
    assert len(found) <= LEFT[kind], "\n".join([f"{len(found)} {kind}, {LEFT[kind]} are allowed:", *sorted(found)])


def test_imports_make_no_circle() -> None:
    TopologicalSorter({module: imported(module) for module in trees()}).prepare()


def test_functions_are_short() -> None:
    def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        return (node.end_lineno or 0) - node.lineno + 1

    long = [f"{function}: {lines(function.node)} lines" for function in functions() if lines(function.node) > LONGEST]
    require_at_most("long functions", long)


def test_public_names_are_used() -> None:
    """By the package: a name that only tests use is dead."""
    unused = []
    for function in public_functions():
        if not (
            function.inherited
            or function.configured
            or is_offered(function)
            or is_used(function.module, function.node, function.node.name, function.owner is not None)
        ):
            unused.append(str(function))
    for module, tree in trees().items():
        for node in tree.body:
            names = [node.name] if isinstance(node, ast.ClassDef) else []
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            value: Any = getattr(importlib.import_module(module), names[0], None) if names else None
            if isinstance(value, type) and any(base.__name__ in CONFIGURED for base in value.__mro__):
                continue
            unused += [f"{module}.{name}" for name in names if name[0] != "_" and not is_used(module, node, name)]
    require_at_most("unused names", unused)


def test_optional_parameters_are_passed() -> None:
    """By some call: one that never is, is a constant."""
    by_name, never = calls(), []
    for function in functions():
        name = function.node.name
        if name == "__init__" and function.owner is not None and not function.configured:
            name = function.owner.__name__
        elif function.configured or function.inherited or name.startswith("__") or name == "main":
            continue
        if is_offered(function):
            continue
        for parameter, place in optional_parameters(function):
            if not any(passes(call, parameter, place) for call in by_name[name]):
                never.append(f"{function}({parameter})")
    require_at_most("parameters never passed", never)


def test_progress_is_drawn_on_a_terminal_alone() -> None:
    """tqdm's `disable=None`: logs and pipes have none of it."""
    assert calls()["tqdm"]
    for call in calls()["tqdm"]:
        assert any(ast.unparse(word) == "disable=None" for word in call.keywords), ast.unparse(call)


def test_variables_are_nouns() -> None:
    names = ((module, getattr(node, "arg", None) or getattr(node, "id", "")) for module, tree in trees().items()
             for node in ast.walk(tree) if isinstance(node, ast.Name | ast.arg))  # fmt: skip
    assert [each for each in names if each[1] in VAGUE] == []


def test_public_functions_have_docstrings() -> None:
    """Their own or that of the method they override."""
    lacking = [str(each) for each in public_functions() if not (is_plain(each) or documentation(each))]
    lacking += [
        f"{module}.{node.name}"
        for module, tree in trees().items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    require_at_most("without a docstring", lacking)


def test_docstrings_tell_the_shape_of_arrays() -> None:
    """Or their unit, where jaxtyping doesn't: in the function's docstring or its class's."""
    silent = []
    for function in public_functions():
        node = function.node
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        types = " ".join(ast.unparse(each) for each in (*(a.annotation for a in arguments), node.returns) if each)
        array = re.search(r"\bnp\.ndarray|\bTensor\b", re.sub(r"\b(?:Float|Int|UInt8|Bool)\[[^]]*]", "", types))
        text = documentation(function) + (function.owner.__doc__ or "" if function.owner else "")
        if array and not function.inherited and not SHAPE_OR_UNIT.search(text):
            silent.append(str(function))
    require_at_most("arrays without a shape", silent)


def is_plain(function: Function) -> bool:
    """Whether others describe it: a command's `main` its module, a property of one expression its class."""
    if isinstance(function.value, property):
        return len(function.node.body) == 1 and bool(function.owner and function.owner.__doc__)
    return function.node.name == "main"


def documentation(function: Function) -> str:
    """A function's docstring; where it has none, that of what it overrides."""
    value = getattr(function.owner, function.node.name, None) if function.owner else function.value
    return inspect.getdoc(value) or ""
