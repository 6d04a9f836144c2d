"""``nixery compare``: two images, by their packages, and what a pull of the second loads."""

from typing import Any

import click

from nixery.cli.exits import DIFFERS, FAILED, CommandFailed
from nixery.cli.known import known_image
from nixery.cli.names import ImageName
from nixery.cli.output import Column, print_json, print_table, size_text
from nixery.cli.places import Place, as_json, with_place


@click.command
@click.argument("before", type=ImageName())
@click.argument("after", type=ImageName())
@as_json
@with_place
@click.pass_context
def command(context: click.Context, place: Place, before: str, after: str, in_json: bool) -> None:
    """Compare two stored images.

    Packages that were added, removed and changed, and the bytes to pull.

    The exit code is 0 if they are the same, and 5 if they differ.
    """
    images = known_image(place, before), known_image(place, after)
    found = compared(*images)
    if in_json:
        print_json(found)
    else:
        rows = [(c["change"], c["name"], c["before"], c["after"]) for c in found["changes"]]
        if rows:
            columns = ("CHANGE", "NAME", "BEFORE", "AFTER")
            print_table([Column(title, cut=title != "CHANGE") for title in columns], rows)
        same = "the same image" if found["same"] else f"{len(rows)} names with other store paths"
        pull = size_text(found["pull"])
        click.echo(f"{same}; a client that has {before} pulls {pull} for {after}")
    context.exit(0 if found["same"] else DIFFERS)


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is different in a second image.

    :raises CommandFailed: if it is not known what is in one of them.
    """
    from nixery.model.comparison import changes, to_pull
    from nixery.model.contents import LayerFacts, PathFacts

    for image in (before, after):
        if not image.get("contents"):
            raise CommandFailed(
                f"it is not known what is in {image['name']}: an older version made it, or no "
                "daemon runs to tell",
                FAILED,
            )
    inside = [image["contents"] for image in (before, after)]
    found = changes(*([PathFacts(p["path"], p["size"]) for p in c["paths"]] for c in inside))
    layers = ([LayerFacts(each["digest"], each["size"]) for each in c["layers"]] for c in inside)
    return {
        "same": before["digest"] == after["digest"],
        "changes": [
            {
                "change": each.difference.value,
                "name": each.name,
                "before": ", ".join(filter(None, each.before.numbers)),
                "after": ", ".join(filter(None, each.after.numbers)),
            }
            for each in found
        ],
        "pull": sum(layer.size for layer in to_pull(*layers)),
    }
