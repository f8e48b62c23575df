"""Docstrings of the statistics: who has one, and who must show an example."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import types
import typing
from pathlib import Path

import numpy as np

import stats


def public(kind) -> dict:
    """Functions or classes without a leading underscore that a module of stats defines itself, by `module.name`."""
    modules = [importlib.import_module(f"stats.{found.name}") for found in pkgutil.iter_modules(stats.__path__)]
    return {f"{module.__name__}.{name}": value for module in modules for name, value in vars(module).items()
            if kind(value) and value.__module__ == module.__name__ and not name.startswith("_")}  # fmt: skip


def written(value) -> str:
    """The docstring; none where it is the signature that a dataclass without one is given."""
    text = inspect.getdoc(value) or ""
    return "" if text.startswith(f"{value.__name__}(") else text


def returned(function):
    """The type that a function says it returns."""
    try:
        return eval(function.__annotations__.get("return", "None"), function.__globals__)
    except NameError:  # imported for type checkers only, so no number
        return None


def numerical(hint) -> bool:
    """Numbers and arrays; tuples, lists, dictionaries by name, unions with None and dataclasses of nothing else."""
    if dataclasses.is_dataclass(hint):
        return all(map(numerical, typing.get_type_hints(hint).values()))
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict:
        return numerical(parts[1])
    if origin in (tuple, list, types.UnionType):
        return all(numerical(part) for part in parts if part not in (Ellipsis, types.NoneType))
    return hint in (int, float, np.ndarray)


def test_every_public_name_is_described_and_every_number_has_an_example():
    """Every public function and class of stats has a docstring; with an example where it returns, or computes from, numbers alone."""
    functions, classes = public(inspect.isfunction), public(inspect.isclass)
    assert not [name for name, value in (functions | classes).items() if not written(value)]

    computing = {name: function for name, function in functions.items() if numerical(returned(function))}
    methods = [name for name, one in classes.items() for key, value in vars(one).items() if inspect.isfunction(value) and key[0] != "_"]
    computing |= {name: classes[name] for name in methods if numerical(classes[name])}  # their examples stand with the class
    assert {"stats.delong.delong", "stats.bootstrap.bca_interval", "stats.delong.Areas"} <= computing.keys()
    assert not [name for name, value in computing.items() if ">>> " not in written(value)]


def test_the_index_names_every_module_once():
    """The docstring of stats names each file of the folder in one line under one heading, and no other."""
    named = re.findall(r"^    (\w+\.py) +\S", stats.__doc__, flags=re.M)
    assert sorted(named) == sorted(path.name for path in Path(stats.__file__).parent.glob("*.py") if path.name != "__init__.py")
