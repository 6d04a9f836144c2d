"""``nixery rm``: images removed from the storage."""

import click

from nixery.cli.client import Client
from nixery.cli.names import ImageName, image_path
from nixery.cli.places import Place, with_place


@click.command
@click.argument("names", metavar="NAME...", type=ImageName(), nargs=-1, required=True)
@with_place
def command(place: Place, names: tuple[str, ...]) -> None:
    """Remove images from the storage.

    Layers that other images share stay, and a pull makes the image again.
    """
    client = Client(place)
    for name in dict.fromkeys(names):
        client.ask("DELETE", image_path(name))
        click.echo(f"removed {name}")
