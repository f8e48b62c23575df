"""Protocols: the constants of a stage, a frozen dataclass in the stage's own file whose defaults are the benchmark.

A configuration may override fields to shrink a run; the tables then say "reduced protocol" and list what was changed.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from .errors import ConfigError, did_you_mean

Settings = TypeVar("Settings")
NOT_A_REDUCTION = frozenset({"seed"})
LANGUAGE_MODEL = "lmsys/vicuna-7b-v1.5"  # of report generation: the paper's; the workflow watches for it, the task trains it
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the patients, where no split is given


def from_overrides(protocol: type[Settings], overrides: Mapping[str, Any], where: str) -> Settings:
    """The protocol with some fields changed. Raises ConfigError for an unknown field, a value of another type or an impossible one."""
    fields = {field.name: field for field in dataclasses.fields(protocol)}
    values = {}
    for name, value in overrides.items():
        if name not in fields:
            raise ConfigError(where, f"no field {name!r}", fix=did_you_mean(name, fields) or f"the fields are {sorted(fields)}")
        default = fields[name].default
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple(value)
            if default and not all(isinstance(part, type(default[0]) | int) for part in value):
                raise ConfigError(f"{where}.{name}", "values of another type", got=value, expected=f"like {default!r}",
                                  fix="YAML reads 5e-5 as text; write 5.0e-5")  # fmt: skip
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not None and not isinstance(value, type(default)):
            number = isinstance(default, int) and isinstance(value, float) and not isinstance(default, bool)
            if not (number and fields[name].type in (float, "float")):
                raise ConfigError(f"{where}.{name}", "value of another type", got=repr(value), expected=f"like {default!r}")
        values[name] = value
    try:
        return protocol(**values)
    except ConfigError as error:  # the protocol knows its stage, the caller which of its runs
        raise ConfigError(f"{where}.{error.where.rpartition('.')[2]}", error.said) from None


def check_fields(
    protocol: Any, where: str, *, at_least: Mapping[str, float] = {}, above_0: Sequence[str] = (), filled: Sequence[str] = (),
    multiple_of: Mapping[str, str | tuple[str | int, ...]] = {},
) -> None:  # fmt: skip
    """Raise ConfigError for a field that cannot be what it is; a protocol's `__post_init__` calls this.

    Every tuple of a fixed length is held to it. Of a tuple each part is checked.

    Args:
        where: place of the protocol in the configuration.
        at_least: field -> smallest value.
        above_0: fields that are larger than 0.
        filled: tuples that are not empty.
        multiple_of: field -> what divides it, a number or a field; fields are in `at_least`.
    """

    def refuse(name: str, what: str, expected: str, fix: str = "") -> None:
        raise ConfigError(f"{where}.{name}", what, got=getattr(protocol, name), expected=expected,
                          fix=fix or f"change it, or leave it out for {getattr(type(protocol), name)!r}")  # fmt: skip

    def parts(name: str) -> tuple:
        value = getattr(protocol, name)
        return value if isinstance(value, tuple) else (value,)

    for name, kind in typing.get_type_hints(type(protocol)).items():
        wanted = typing.get_args(kind)
        if typing.get_origin(kind) is tuple and Ellipsis not in wanted and len(parts(name)) != len(wanted):
            refuse(name, f"{len(parts(name))} values", f"{len(wanted)} values")
    for name in filled:
        if not parts(name):
            refuse(name, "no value", "one or more")
    for name, least in at_least.items():
        if not all(part >= least for part in parts(name)):
            refuse(name, "too small", f"{least} or more")
    for name in above_0:
        if not all(part > 0 for part in parts(name)):
            refuse(name, "too small", "more than 0")
    for name, divisors in multiple_of.items():
        for divisor in divisors if isinstance(divisors, tuple) else (divisors,):
            number = divisor if isinstance(divisor, int) else getattr(protocol, divisor)
            if getattr(protocol, name) % number:
                refuse(name, f"not a multiple of {divisor}", f"a multiple of {number}",
                       f"change {name}" + f" or {divisor}" * isinstance(divisor, str))  # fmt: skip


def reductions(protocol: Any) -> list[str]:
    """What differs from the benchmark's protocol, such as "epochs 300 -> 4"."""
    defaults = type(protocol)()
    return [f"{field.name} {getattr(defaults, field.name)} -> {getattr(protocol, field.name)}"
            for field in dataclasses.fields(protocol)
            if field.name not in NOT_A_REDUCTION and getattr(protocol, field.name) != getattr(defaults, field.name)]  # fmt: skip


def check_shares(where: str, shares: Mapping[str, float]) -> None:
    """Raise ConfigError unless these are shares of train, val and test that divide the patients."""
    if set(shares) != set(SHARES) or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise ConfigError(where, "not a division of the patients", got=dict(shares),
                          expected="train, val and test, each above 0, adding up to 1")  # fmt: skip
