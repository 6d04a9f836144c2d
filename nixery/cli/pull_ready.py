"""``nixery pull-ready``: images made before anybody pulls them."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import click

from nixery.cli.build_steps import Steps
from nixery.cli.client import Client
from nixery.cli.exits import FAILED, CommandFailed
from nixery.cli.names import ImageName, split_tagged
from nixery.cli.output import print_json
from nixery.cli.places import Place, as_json, with_place

Result = dict[str, Any]
Tell = Callable[[str, Steps], None]
"""Shows how far an image is."""

_FRAMES = 4  # in a second
_AGAIN = 1.0  # second
_AT_ONCE = 16
"""Images that are asked for at the same time; the daemon's own limits are lower."""


@click.command("pull-ready")
@click.argument("names", metavar="NAME...", type=ImageName(), nargs=-1, required=True)
@as_json
@with_place
@click.pass_context
def command(context: click.Context, place: Place, names: tuple[str, ...], in_json: bool) -> None:
    """Have images made before they are pulled.

    Their first pull then takes no longer than the others.

    The exit code is 1 if any of them can't be made. Ctrl-C stops the waiting, not the builds.
    """
    client = Client(place)
    wanted = list(dict.fromkeys(names))
    shown = _quiet if in_json else _bars if sys.stdout.isatty() else _lines
    with shown(wanted) as tell:
        results = _all(wanted, lambda name: _result(client, name, tell))
    if in_json:
        print_json({"images": [results[name] for name in wanted]})
    failed = [name for name in wanted if results[name]["error"]]
    for name in failed:
        click.echo(f"nixery: {name}: {results[name]['error']}", err=True)
    if failed:
        codes = {results[name]["exit_code"] for name in failed}
        context.exit(codes.pop() if len(codes) == 1 else FAILED)


def _all(names: list[str], make: Callable[[str], Result]) -> dict[str, Result]:
    """Make all, some at once. Ctrl-C does not wait for those that are being made."""
    waiting, made = SimpleQueue[str](), SimpleQueue[tuple[str, Result | BaseException]]()
    for name in names:
        waiting.put(name)

    def work() -> None:
        with suppress(Empty):
            while True:
                name = waiting.get_nowait()
                try:
                    made.put((name, make(name)))
                except BaseException as error:
                    made.put((name, error))

    for _ in names[:_AT_ONCE]:
        Thread(target=work, daemon=True).start()
    results: dict[str, Result] = {}
    for _ in names:
        name, result = made.get()
        if isinstance(result, BaseException):
            raise result
        results[name] = result
    return results


def _make(client: Client, name: str, tell: Tell) -> Steps:
    """Have an image made, and follow its build."""
    steps = Steps()
    tell(name, steps)
    asked = _ask(client, name)
    while build := asked.get("build"):
        ended = _follow(client, build, lambda: tell(name, steps), steps)
        if ended is not None and ended["state"] != "running":
            asked = ended
            break
        time.sleep(_AGAIN)  # where builds are not shown, it is known only whether it is made
        asked = _ask(client, name)
    steps.end(asked.get("digest"), asked.get("error"))
    tell(name, steps)
    return steps


def _ask(client: Client, name: str) -> dict[str, Any]:
    wanted, tag = split_tagged(name)
    asked: dict[str, Any] = client.ask("POST", "/api/images", {"name": wanted, "tag": tag})
    return asked


def _follow(
    client: Client, build: str, show: Callable[[], None], steps: Steps
) -> dict[str, Any] | None:
    """Follow a build's events.

    :return: the build in short, at its end; None if builds are not shown, to all or to us.
    """
    try:
        for line in client.lines(f"/builds/{build}/events", "application/x-ndjson"):
            if steps.note(json.loads(line)):
                show()
        ended: dict[str, Any] = client.get(f"/builds/{build}")
    except CommandFailed:
        return None  # if the daemon is gone, the next request tells
    return ended


def _result(client: Client, name: str, tell: Tell) -> Result:
    try:
        steps = _make(client, name, tell)
    except CommandFailed as error:
        return {"name": name, "digest": None, "error": error.message, "exit_code": error.code}
    code = FAILED if steps.error else 0
    return {"name": name, "digest": steps.digest, "error": steps.error, "exit_code": code}


@contextmanager
def _quiet(names: list[str]) -> Iterator[Tell]:
    yield lambda name, steps: None


@contextmanager
def _lines(names: list[str]) -> Iterator[Tell]:
    """A line for each step, where no terminal shows them."""
    last: dict[str, str] = {}

    def tell(name: str, steps: Steps) -> None:
        if steps.phase != last.get(name):
            last[name] = steps.phase
            click.echo(f"{name}: {steps.words()}")

    yield tell


@contextmanager
def _bars(names: list[str]) -> Iterator[Tell]:
    """A bar for each image, in a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(highlight=False)
    narrow = console.width < 60
    columns = [TextColumn("{task.description}", markup=False)]
    columns += [] if narrow else [BarColumn(bar_width=20)]  # type: ignore[list-item]
    columns += [TextColumn("{task.fields[words]}", markup=False)]
    with Progress(*columns, console=console, refresh_per_second=_FRAMES) as progress:
        most = max(8, console.width // 3)
        tasks = {name: progress.add_task(_cut(name, most), total=1, words="") for name in names}

        def tell(name: str, steps: Steps) -> None:
            room = console.width - min(most, max(map(len, names))) - (2 if narrow else 24)
            progress.update(tasks[name], completed=steps.part(), words=_cut(steps.words(), room))

        yield tell


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(1, width - 1)]}…"
