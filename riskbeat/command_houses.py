"""a command's name → the module that has it, imported once somebody asks for the command.

All of them together take seconds of CPU to import, which every start of a process would pay.
"""

import importlib
from collections.abc import Iterator, MutableMapping
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup

HOUSES = MappingProxyType(
    {
        "commands_run": ("demo", "up", "featurize", "index", "learn", "rebuild", "serve"),
        "commands_data": ("generate", "replay"),
        "commands_features": ("features",),
        "commands_keys": ("keys",),
        "commands_model": ("model",),
        "commands_rollout": ("rollout",),
        "commands_offline": ("backfill", "skew"),
        "commands_evaluate": ("evaluate",),
        "commands_policy": ("policy",),
        "commands_ops": ("prepare", "topics", "warm", "settings", "metrics", "dashboards"),
        "commands_papers": ("openapi", "asyncapi"),
        "commands_plan": ("plan",),
        "commands_secure": ("secrets", "access"),
        "commands_store": ("store",),
        "commands_audit": ("audit",),
        "commands_backup": ("backup", "restore"),
        "commands_recompute": ("recompute",),
        "doctor": ("doctor",),
    }
)
"""Module of `riskbeat` → the commands that it registers."""

_HOUSE_OF = {command: house for house, commands in HOUSES.items() for command in commands}


class _Commands(MutableMapping[str, Any]):
    """Commands by name: those that were given, and those of the houses, made when looked up."""

    def __init__(self, given: MutableMapping[str, Any]) -> None:
        self._made = given

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made.update(commands_of(_HOUSE_OF[name]))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._made or name in _HOUSE_OF

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(_HOUSE_OF), **dict.fromkeys(self._made)})

    def __len__(self) -> int:
        return len(_HOUSE_OF.keys() | self._made.keys())

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]


class Houses(TyperGroup):
    """The command line: names are known at once, all else of a command when it is asked for."""

    def __init__(self, **options: Any) -> None:
        """See `TyperGroup`."""
        super().__init__(**options)
        self.commands = _Commands(self.commands)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, without looking any of them up."""
        return list(self.commands)


def commands_of(house: str) -> dict[str, Any]:
    """Import a house; return its commands by name."""
    app = typer.Typer()
    importlib.import_module(f"riskbeat.{house}").register(app)
    return dict(typer.main.get_group(app).commands)
