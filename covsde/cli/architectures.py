"""Architectures as options of a command, from the registry."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from covsde.architectures.family import Family, Option
from covsde.architectures.registry import FAMILIES
from covsde.cli.inputs import Refusal


def trainable() -> dict[str, Family]:
    """The families that can be trained."""
    return {name: family for name, family in FAMILIES.items() if family.training}


def add_architecture(add: Callable[..., Any], families: dict[str, Family], training: bool = False) -> None:
    """The options that choose and make an architecture, each with the families it is for."""
    default = next(iter(families))
    add("--architecture", choices=tuple(families), default=default, help=f"(default: {default})")
    said: dict[str, list[tuple[str, Option]]] = {}
    for name, family in families.items():
        for option in (*family.options, *(family.training if training else ())):
            said.setdefault(option.name, []).append((name, option))
    for name, uses in said.items():
        texts: dict[str, list[str]] = {}
        for family_name, option in uses:
            texts.setdefault(option.text, []).append(family_name)
        text = "; ".join(f"{', '.join(owners)}: {sentence}" for sentence, owners in texts.items())
        flag, first = f"--{name.replace('_', '-')}", uses[0][1]
        if first.kind is bool:
            add(flag, action="store_const", const=True, help=text)
        elif any(option.choices for _, option in uses):
            choices = tuple(dict.fromkeys(c for _, option in uses for c in option.choices or ()))
            add(flag, choices=choices, help=text)
        else:
            add(flag, type=first.kind, metavar=first.metavar, help=text)


def _given(args: argparse.Namespace, options: Iterable[Option]) -> dict[str, Any]:
    found = {option.name: getattr(args, option.name, None) for option in options}
    return {name: value for name, value in found.items() if value is not None}


def make_architecture(args: argparse.Namespace, families: dict[str, Family], training: bool = False) -> Any:
    """The architecture that the options describe."""
    family = families[args.architecture]
    own = (*family.options, *(family.training if training else ()))
    for other in families.values():
        for option in (*other.options, *(other.training if training else ())):
            if getattr(args, option.name, None) is not None and option.name not in {o.name for o in own}:
                flag = f"--{option.name.replace('_', '-')}"
                raise Refusal(f"{flag} has no meaning for --architecture {args.architecture}; drop it.")
    given = _given(args, family.options)
    for option in family.options:
        if option.choices and option.name in given and given[option.name] not in option.choices:
            flag, allowed = f"--{option.name.replace('_', '-')}", ", ".join(option.choices)
            raise Refusal(f"{flag} {given[option.name]} is not for --architecture {args.architecture}; use {allowed}.")
    return family.make(given | {"training": training})


def training_settings(args: argparse.Namespace, families: dict[str, Family]) -> dict[str, Any]:
    """What training takes besides a task, as keywords of `train`; `limit_depth` is the depth of the limit alone."""
    return _given(args, families[args.architecture].training)
