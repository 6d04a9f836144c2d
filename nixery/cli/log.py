"""``nixery log``: what happened while an image was made."""

import json
import os
import re
from contextlib import suppress
from typing import Any

import click

from nixery.cli.client import Client
from nixery.cli.exits import FAILED, NOT_FOUND, CommandFailed
from nixery.cli.names import ImageName, with_tag
from nixery.cli.places import Place, with_place

_ID = re.compile(r"[0-9a-f]{16}")
_PAGE = 1000


@click.command
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the build ends.")
@with_place
@click.pass_context
def command(context: click.Context, place: Place, name: str, follow: bool) -> None:
    """Print the log of a build.

    NAME is an image, whose last build is meant, or the ID of a build.

    The exit code is 1 if the build failed.
    """
    is_id = _ID.fullmatch(name) is not None
    wanted = name if is_id else ":".join(with_tag(ImageName().convert(name, None, context)))
    try:
        client = Client(place)
        build = client.get(f"/builds/{wanted if is_id else _latest(client, wanted)}")
    except CommandFailed:
        # Where there are users, or pages are off, builds may not be shown; files tell of all.
        if place.state is None or not os.path.isdir(_history(place)):
            raise
        state = _print_stored(place, wanted, is_id)
    else:
        state = _print(client, build, follow)
    if state == "failed":
        context.exit(FAILED)


def _history(place: Place) -> str:
    return os.path.join(place.state or "", "history")


def _latest(client: Client, name: str) -> str:
    """The ID of the last build of an image."""
    wanted, tag = with_tag(name)
    before: dict[str, str] = {}
    while builds := client.get("/builds", n=_PAGE, **before):
        for build in builds:
            if (build["name"], build["tag"]) == (wanted, tag):
                return str(build["id"])
        before = {"before": builds[-1]["id"]}
    raise _no_build(name)


def _print(client: Client, build: dict[str, Any], follow: bool) -> str:
    """Print what there is of a log, or all of it as it comes.

    :return: the state of the build.
    """
    path = f"/builds/{build['id']}"
    if follow or build["state"] != "running":
        for line in client.lines(f"{path}/log", "text/plain"):
            click.echo(line.decode("utf-8", "replace"), nl=False)
        return str(client.get(path)["state"])
    # A running build's log does not end; the number of its last event tells how far it is now.
    lines: list[bytes] = []
    for line in client.lines(f"{path}/events", "application/x-ndjson"):
        lines.append(line)
        if json.loads(line)["id"] >= build["events"]:
            break
    _print_events(b"".join(lines))
    return "running"


def _print_stored(place: Place, name: str, is_id: bool) -> str:
    """Print a log from the state folder.

    :return: the state of the build.
    """
    from nixery.history.blocks import BlockFile
    from nixery.history.folder import HistoryFolder, ids_of

    path = _history(place)
    folder, (wanted, tag) = HistoryFolder(path), with_tag(name)
    for id in [name] if is_id else ids_of(os.listdir(path)):
        with suppress(OSError, ValueError, KeyError, TypeError):  # none that can be read
            head = folder.head(id)
            if is_id or (head.name, head.tag) == (wanted, tag):
                file, after = BlockFile(folder.events(id)), 0
                file.scan()
                while (block := file.read(after)) is not None:
                    after = block.last
                    _print_events(block.data)
                return head.state
    raise _no_build(name)


def _print_events(lines: bytes) -> None:
    from nixery.web.forms import TEXT

    if lines:
        click.echo(TEXT.show(lines).decode("utf-8"), nl=False)


def _no_build(name: str) -> CommandFailed:
    return CommandFailed(f"no build of {name} is remembered", NOT_FOUND)
