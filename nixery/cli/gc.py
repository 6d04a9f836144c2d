"""``nixery gc``: room made in the storage."""

import click

from nixery.cli.client import Client
from nixery.cli.output import print_json, size_text
from nixery.cli.places import Place, as_json, with_place


@click.command
@as_json
@with_place
def command(place: Place, in_json: bool) -> None:
    """Drop what is no longer needed.

    That is blobs of images that were removed, and of those of least recent use what is beyond
    NIXERY_STORAGE_MAX. The daemon does so by itself; this has it done now.
    """
    done = Client(place).ask("POST", "/api/gc")
    if in_json:
        print_json(done)
    else:
        left = f"; {done['blobs']} are left, {size_text(done['size'])}" if done["blobs"] else ""
        click.echo(f"dropped {done['dropped']} blobs{left}")
