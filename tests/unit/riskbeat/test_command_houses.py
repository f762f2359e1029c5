"""The command line imports a command's module when the command is asked for, and no other."""

import importlib
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from features.spec_yaml import SpecError
from riskbeat.__main__ import USER_ERRORS, app, is_user_error
from riskbeat.command_houses import HOUSES, commands_of


@pytest.mark.parametrize("house", HOUSES)
def test_a_house_registers_the_commands_that_it_is_listed_with(house: str) -> None:
    assert tuple(commands_of(house)) == HOUSES[house]


def test_help_lists_every_command() -> None:
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    listed = {line.split()[1] for line in told.output.splitlines() if line.startswith("│ ")}
    assert {"version"}.union(*HOUSES.values()) <= listed


def test_a_word_like_a_command_is_answered_with_it() -> None:
    told = CliRunner().invoke(app, ["topic"])
    assert told.exit_code == 2
    assert "Did you mean 'topics'?" in told.output


def test_one_command_does_not_import_what_others_need() -> None:
    program = "import sys; from riskbeat.__main__ import main; sys.argv = ['riskbeat', 'plan']\n"
    program += "try: main()\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    loaded = done.stdout.split()
    assert "riskbeat.commands_plan" in loaded
    assert not {"riskbeat.commands_ops", "numba", "torch", "redis", "aiokafka"} & set(loaded)


@pytest.mark.parametrize("name", USER_ERRORS)
def test_a_users_error_is_the_class_of_that_name(name: str) -> None:
    module, _, kind = name.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    assert f"{found.__module__}.{found.__qualname__}" == name


def test_what_derives_from_a_users_error_is_one() -> None:
    class Special(SpecError):
        pass

    assert is_user_error(Special.__new__(Special))
    assert not is_user_error(RuntimeError("ours"))
