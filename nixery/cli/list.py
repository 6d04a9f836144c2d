"""``nixery list``: the images that are stored."""

import fnmatch

import click

from nixery.cli.known import known_images
from nixery.cli.output import Column, age_text, print_json, print_table, size_text
from nixery.cli.places import Place, as_json, with_place

_COLUMNS = (
    Column("NAME", cut=True),
    Column("TAG", rank=1, cut=True),
    Column("SIZE", right=True),
    Column("PLATFORM", rank=5),
    Column("PULLS", rank=3, right=True),
    Column("USED", rank=2, right=True),
    Column("DIGEST", rank=4),
)


@click.command
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@as_json
@with_place
def command(place: Place, patterns: tuple[str, ...], in_json: bool) -> None:
    """List the stored images, latest used first.

    PATTERN selects by name, with * for any characters: 'shell/*'.

    Without a daemon, the list is the one that it left in its state folder.
    """
    images = [each for each in known_images(place) if _is_wanted(each["name"], patterns)]
    if in_json:
        print_json({"images": images})
        return
    rows = []
    for image in images:
        used, tags = max(image["made"], image["pulled"]), image["tags"]
        rows.append(
            (
                image["name"] or "?",
                tags[-1] if tags else "",
                size_text(image["size"]),
                ",".join(each.removeprefix("linux/") for each in image["platforms"]),
                str(image["pulls"]),
                age_text(used),
                image["digest"].removeprefix("sha256:")[:12],
            )
        )
    print_table(_COLUMNS, rows)


def _is_wanted(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
