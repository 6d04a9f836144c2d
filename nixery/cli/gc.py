"""``nixery gc``: room made on the disks."""

import click

from nixery.cli.client import Client
from nixery.cli.output import print_json, size_text
from nixery.cli.places import Place, as_json, with_place


@click.command
@as_json
@with_place
def command(place: Place, in_json: bool) -> None:
    """Drop what is no longer needed.

    That is blobs that no image has, and store paths beyond the limits.

    The daemon does so by itself, within NIXERY_STORAGE_MAX, NIXERY_NIX_MIN_FREE and
    NIXERY_NIX_KEEP_DAYS; this has it done now.
    """
    done = Client(place).ask("POST", "/api/gc")
    if in_json:
        print_json(done)
    else:
        freed = f"{done['blobs']} blobs, {size_text(done['bytes'])}"
        click.echo(f"dropped {freed}; {done['roots']} images' store paths are kept no longer")
