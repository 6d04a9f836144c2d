"""``nixery show``: what is known of an image."""

from typing import Any

import click

from nixery.cli.known import known_image
from nixery.cli.names import ImageName
from nixery.cli.output import Column, date_text, print_facts, print_json, print_table, size_text
from nixery.cli.places import Place, as_json, with_place


@click.command
@click.argument("name", type=ImageName())
@as_json
@with_place
def command(place: Place, name: str, in_json: bool) -> None:
    """Show what is known of an image.

    Where it comes from, what is in it, and whether it was verified.

    NAME is as for docker pull, with a tag or digest. Without a daemon, less is known.
    """
    image = known_image(place, name)
    if in_json:
        print_json(image)
        return
    print_facts(
        [
            ("name", image["name"]),
            ("tags", " ".join(image["tags"])),
            ("digest", image["digest"]),
            ("platforms", " ".join(image["platforms"])),
            ("source", image["source"]),
            ("revision", image["revision"]),
            ("size", size_text(image["size"])),
            ("made", date_text(image["made"])),
            ("pulls", str(image["pulls"])),
            ("pulled", date_text(image["pulled"])),
            ("verified", _verified(image.get("verified"))),
        ]
    )
    _print_contents(image.get("contents") or {})


def _verified(result: dict[str, Any] | None) -> str:
    if not result:
        return ""
    where = f" against {result['against']}" if result["against"] else ""
    return f"{result['outcome']}{where}, {date_text(result['ended'])}"


def _print_contents(contents: dict[str, Any]) -> None:
    if packages := contents.get("packages"):
        click.echo()
        columns = (Column("PACKAGE"), Column("VERSION"), Column("LICENCE", rank=1, cut=True))
        print_table(
            columns,
            [(p["package"], p["version"], ", ".join(p["licences"])) for p in packages],
        )
    if layers := contents.get("layers"):
        click.echo()
        columns = (Column("LAYER"), Column("SIZE", right=True), Column("CONTENTS", cut=True))
        print_table(columns, [_layer(layer) for layer in layers])


def _layer(layer: dict[str, Any]) -> tuple[str, str, str]:
    names = [path.rpartition("/")[2][33:] for path in layer["paths"]] or ["root file system"]
    return layer["digest"].removeprefix("sha256:")[:12], size_text(layer["size"]), " ".join(names)
