"""`riskbeat policy …`: the rules by which scores become outcomes, and acts upon them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from features.event import from_ms
from features.spec import Spec
from features.spec_yaml import read_duration_ms
from models.policy import read_text
from models.policy_difference import differences, unnumbered
from riskbeat import commands_policy_list, policy_acts, policy_past
from riskbeat import policy_pages as pages
from riskbeat.policies import compile_text
from riskbeat.policy_cost import check_costs
from riskbeat.policy_ending import ENDINGS, end, run
from riskbeat.settings_load import load_settings
from riskbeat.versions import actor

EXIT_REFUSED = 1
LAST = 100_000
policy = typer.Typer(
    help="The rules by which scores become outcomes: checked, compared, applied, taken back.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(help="A policy file.")]
Why = Annotated[str, typer.Option("--why", help="Kept in the list of acts.")]
By = Annotated[str, typer.Option("--by", help="Who acts; this user on this machine if left out.")]
Rule = Annotated[str, typer.Argument(help="The rule's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    policy.add_typer(commands_policy_list.lists, name="list")
    app.add_typer(policy, name="policy")


@policy.command()
def check(file: File = Path("policy.yaml")) -> None:
    """Check a file against the feature spec, and measure its rules. Needs no running part."""
    settings = load_settings(servers=False)
    try:
        book = compile_text(read_text(file), file.name, Spec.load(settings.spec_path))
        costs = check_costs(book, file.name)
    except ENDINGS as error:
        end(error)
    _say(pages.checked_lines(file.name, book, costs))


@policy.command()
def show(
    text: Annotated[bool, typer.Option("--text", help="Print the policy itself.")] = False,
) -> None:
    """Say which policy counts, what is snoozed or halted, and which scorers rule by it."""
    settings = load_settings()

    async def look() -> list[str]:
        spec = Spec.load(settings.spec_path)
        async with policy_acts.open_stores(settings) as stores:
            kept, book = await policy_acts.counting(stores, settings, spec)
            if text:
                return [kept.text.rstrip("\n")]
            return pages.shown_lines(
                await stores.policies.standing(),
                kept,
                book,
                await stores.policies.switches(),
                await stores.policies.scorers(),
                datetime.now(UTC),
            )

    _say(run(look()))


@policy.command()
def diff(
    file: File = Path("policy.yaml"),
    on: Annotated[
        str, typer.Option("--on", help="Past decisions: `topic`, or a file of its records.")
    ] = "",
    last: Annotated[
        int, typer.Option(min=1, help="At most so many decisions of the topic, the newest.")
    ] = LAST,
) -> None:
    """Say what a file would change; with --on also how many past decisions would differ."""
    settings = load_settings()

    async def compare() -> list[str]:
        spec = Spec.load(settings.spec_path)
        new = compile_text(read_text(file), file.name, spec)
        async with policy_acts.open_stores(settings) as stores:
            _, old = await policy_acts.counting(stores, settings, spec)
        lines = differences(old.policy, new.policy) or ["nothing changes"]
        fault = unnumbered(old.policy, new.policy)
        lines += [f"! {fault}"] if fault else []
        if on:
            outlook = await policy_past.look_back(settings, spec, new, on, last)
            lines += pages.outlook_lines(outlook)
        return lines

    _say(run(compare()))


@policy.command()
def apply(why: Why, file: File = Path("policy.yaml"), by: By = "") -> None:
    """Let a file count in every scorer. Its version must be higher than every one before."""
    lines, done = run(policy_acts.apply(load_settings(), file, by or actor(), why))
    _say(lines)
    typer.echo(f"version {done.version} counts")
    _followed(done)


@policy.command()
def rollback(
    why: Why,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="The version; else the one before.")
    ] = None,
    by: By = "",
) -> None:
    """Let an earlier version count again."""
    done = run(policy_acts.rollback(load_settings(), to, by or actor(), why))
    typer.echo(f"rolled back: version {done.version} counts")
    _followed(done)


@policy.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Newest acts shown.")] = 20,
) -> None:
    """List the acts upon policy, rules and lists, newest first: who, when and why."""
    settings = load_settings()

    async def look() -> list[str]:
        async with policy_acts.open_stores(settings) as stores:
            acts = await stores.policies.history()
        return [pages.act_line(act) for act in acts[:limit]]

    _say(run(look()) or ["nothing was done yet"])


@policy.command()
def snooze(
    rule: Rule,
    why: Why,
    length: Annotated[str, typer.Option("--for", help="As in 30m, 2h or 7d.")] = "1h",
    by: By = "",
) -> None:
    """Switch a rule off for a while, in every scorer; the policy stays as it is."""
    try:
        for_s = read_duration_ms(length) / 1000
    except ValueError as error:
        end(error)
    until_ms = run(policy_acts.snooze(load_settings(), rule, for_s, by or actor(), why))
    typer.echo(f"rule {rule} is snoozed until {from_ms(until_ms).isoformat(timespec='seconds')}")


@policy.command()
def resume(rule: Rule, why: Why, by: By = "") -> None:
    """Let a rule that was snoozed, or halted since it hit too much, have its say again."""
    run(policy_acts.resume(load_settings(), rule, by or actor(), why))
    typer.echo(f"rule {rule} has its say again")


def _followed(done: policy_acts.Done) -> None:
    _say(pages.done_lines(done))
    if any(scorer.refused for scorer in done.scorers.values()):
        raise typer.Exit(EXIT_REFUSED)


def _say(lines: Any) -> None:
    for line in lines:
        typer.echo(line)
