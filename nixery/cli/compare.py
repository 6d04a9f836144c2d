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
        same = "the same image" if found["same"] else f"{len(rows)} store paths changed"
        pull = size_text(found["pull"])
        click.echo(f"{same}; a client that has {before} pulls {pull} for {after}")
    context.exit(0 if found["same"] else DIFFERS)


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is different in a second image.

    :raises CommandFailed: if it is not known what is in one of them.
    """
    for image in (before, after):
        if not image.get("contents"):
            raise CommandFailed(
                f"it is not known what is in {image['name']}: an older version made it, or no "
                "daemon runs to tell",
                FAILED,
            )
    names = [_names(image) for image in (before, after)]
    changes = []
    for name in sorted(names[0].keys() | names[1].keys()):
        versions = [", ".join(sorted(each.get(name, ()))) for each in names]
        if names[0].get(name) != names[1].get(name):
            kind = "added" if not versions[0] else "removed" if not versions[1] else "changed"
            changes.append(
                {"change": kind, "name": name, "before": versions[0], "after": versions[1]}
            )
    there = {layer["digest"] for layer in before["contents"]["layers"]}
    pull = sum(
        layer["size"] for layer in after["contents"]["layers"] if layer["digest"] not in there
    )
    return {"same": before["digest"] == after["digest"], "changes": changes, "pull": pull}


def _names(image: dict[str, Any]) -> dict[str, set[str]]:
    """The store paths of an image: name without version → versions."""
    found: dict[str, set[str]] = {}
    for each in image["contents"]["paths"]:
        path = each["path"] if isinstance(each, dict) else each
        name, version = _split(path.rpartition("/")[2][33:])
        found.setdefault(name, set()).add(version or path.rpartition("/")[2][:8])
    return found


def _split(name: str) -> tuple[str, str]:
    from nixery.model.contents import split_name

    return split_name(name)
