"""`riskbeat demo`: the whole path on this machine, on generated payments, in front of your eyes."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from pipeline.generate import GenerateConfig, generate
from pipeline.generate_write import write_log
from riskbeat.demo_view import show, summary
from riskbeat.demo_watch import DemoWatch, Truth
from riskbeat.settings_load import load_settings
from riskbeat.stack import LocalStack, StackFailed

DAYS = 30.0
FRAUD_RATE = 0.015
READY_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 15.0
REFRESH_S = 0.5
HASTE = {
    "RISKBEAT_STEP_FREE_LABELS": "1000000",
    "RISKBEAT_LEARNERS": '{"feedback": {"network": {"learner": "network"}}, '
    '"delayed": {"network": {"learner": "network"}}}',
}
"""A month in a minute: the limits of a step are made for a version a second, not for one a day, and
forests are fitted every few days: here, every few seconds."""
EXIT_FAILED = 1


def run_demo(seconds: float, seed: int, rate: int, json_out: Path | None) -> int:
    """Run it; return the exit code.

    Args:
        seconds: How long payments flow.
        seed: Of the generated payments.
        rate: Payments per second.
        json_out: Where the summary goes too.
    """
    console = Console()
    try:
        figures = asyncio.run(_demo(console, seconds, seed, rate))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped; everything that was started has ended.")
        return 0
    except StackFailed as error:
        console.print(f"[red]the stack failed:[/red] {error}", markup=True)
        console.print("`riskbeat doctor` names what is missing.")
        return EXIT_FAILED
    if json_out is not None:
        json_out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


async def _demo(console: Console, seconds: float, seed: int, rate: int) -> dict[str, object]:
    loop, main_task = asyncio.get_running_loop(), asyncio.current_task()
    assert main_task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, main_task.cancel)
    with tempfile.TemporaryDirectory(prefix="riskbeat-demo-") as folder:
        log = Path(folder) / "payments.parquet"
        events = int(seconds * rate)
        console.print(f"generating {events:,} payments of {DAYS:g} days …")
        config = GenerateConfig(seed=seed, events=events, days=DAYS, fraud_rate=FRAUD_RATE)
        write_log(log, generate(config))
        truth = Truth.read(log)
        console.print("starting broker, store, worker, learner and scorer …")
        async with LocalStack(durable=False, environment=HASTE) as stack:
            await stack.wait_ready(READY_TIMEOUT_S)
            os.environ.update(stack.environment_of("demo"))  # this process is one of the stack's
            watch = DemoWatch(stack, load_settings(), truth, seconds)
            speed = DAYS * 86_400 / seconds
            return await _play(console, stack, watch, log, speed)


async def _play(
    console: Console, stack: LocalStack, watch: DemoWatch, log: Path, speed: float
) -> dict[str, object]:
    """Replay the log while the table is drawn; return the summary."""
    replay = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "riskbeat", "replay", str(log), "--mapping", "generator"),
        *("--speed", f"{speed:g}", "--no-progress", "--no-resume", "--no-tail"),
        env=stack.environment_of("replay"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        process_group=0,
    )
    broken = asyncio.create_task(stack.watch())
    try:
        async with watch:
            with Live(console=console, refresh_per_second=4, transient=True) as live:
                drained_by = None
                while drained_by is None or (
                    time.monotonic() < drained_by and not watch.all_decided
                ):
                    if broken.done():
                        await broken
                    await asyncio.sleep(REFRESH_S)
                    live.update(show(await watch.look(), watch.tally.alerts))
                    if drained_by is None and replay.returncode is not None:
                        await _check(replay)
                        drained_by = time.monotonic() + DRAIN_TIMEOUT_S
        figures = await watch.summary()
        console.print(show(await watch.look(), watch.tally.alerts))
        console.print(summary(figures))
        return figures
    finally:
        broken.cancel()
        if replay.returncode is None:
            os.killpg(replay.pid, signal.SIGTERM)
            await replay.wait()


async def _check(replay: asyncio.subprocess.Process) -> None:
    assert replay.stderr is not None
    if replay.returncode:
        words = (await replay.stderr.read()).decode(errors="replace")
        raise StackFailed(f"replay ended with {replay.returncode}: {words[-2000:]}")
