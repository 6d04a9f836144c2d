"""``nixery verify``: whether an image comes out the same when it is made again."""

import time
from typing import Any

import click

from nixery.cli.client import Client
from nixery.cli.exits import DIFFERS, FAILED, CommandFailed
from nixery.cli.names import ImageName, split_tagged
from nixery.cli.output import Column, print_json, print_table
from nixery.cli.places import Place, as_json, with_place
from nixery.model.text import readable

_PERIOD = 0.5  # seconds between two looks


@click.command
@click.argument("name", type=ImageName())
@click.option("--deep", is_flag=True, help="Build all of its closure again that was built there.")
@click.option(
    "--against", metavar="URL", help="Compare it with the same image of another registry."
)
@as_json
@with_place
@click.pass_context
def command(
    context: click.Context,
    place: Place,
    name: str,
    deep: bool,
    against: str | None,
    in_json: bool,
) -> None:
    """Make an image again, and compare.

    Its packages are built again, and its layers are packed again.

    The daemon does it when nothing else is to be built, and keeps the result with the image. The
    exit code is 5 if anything differs.
    """
    client, (wanted, tag) = Client(place), split_tagged(name)
    asked = {"name": wanted, "tag": tag, "against": against or ""}
    state = client.ask("POST", "/api/verifications", {**asked, "deep": deep})
    told = ""
    while state["state"] == "running":
        if state["step"] != told and not in_json:
            told = state["step"]
            done = f" ({state['done']} of {state['total']})" if state["total"] else ""
            click.echo(f"{readable(told)}{done}", err=True)
        time.sleep(_PERIOD)
        state = client.get("/api/verifications", **asked, deep=int(deep))
    if state["state"] == "failed":
        raise CommandFailed(state["error"], FAILED)
    result = state["result"]
    if in_json:
        print_json(result)
    else:
        _print(result)
    context.exit({"same": 0, "differs": DIFFERS}.get(result["outcome"], FAILED))


def _print(result: dict[str, Any]) -> None:
    rows = [
        (each["outcome"], each["derivation"].rpartition("/")[2][33:], each["detail"])
        for each in result["derivations"]
    ]
    if rows:
        print_table((Column("RESULT"), Column("DERIVATION"), Column("", cut=True)), rows)
    layers = result["layers"]
    same = sum(each["outcome"] == "same" for each in layers)
    click.echo(f"{same} of {len(layers)} layers are the same")
    for layer in layers:
        if layer["outcome"] != "same":
            names = " ".join(path.rpartition("/")[2][33:] for path in layer["paths"])
            click.echo(f"  {layer['digest']}: {layer['outcome']} ({names or 'root file system'})")
    if result["remark"]:
        click.echo(readable(result["remark"]))
    words = {"same": "comes out the same", "differs": "comes out different"}
    verdict = words.get(result["outcome"], "could not be made again in all parts")
    click.echo(f"{result['name']}:{result['tag']} {verdict}: {result['digest']}")
