"""The part that makes images again to compare them, put together; beside the parts that make images
for clients, it has layers and a packing process of its own."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.web.iweb import IAgent

from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.builds.layers import LayerMaker
from nixery.builds.making import ImageMaker
from nixery.builds.rehearsal import Rehearsal
from nixery.builds.reproducing import Reproducer
from nixery.nix.commands import Commands
from nixery.nix.realise import Nix
from nixery.nix.rebuilding import Rebuilder
from nixery.other_registry import OtherRegistry
from nixery.packing.workers import Packers
from nixery.setting_groups import ImageSettings
from nixery.starts import Starts


def make_reproducer(
    reactor: Any,
    images: ImageSettings,
    builder: Builder,
    cache: Cache,
    maker: ImageMaker,
    nix: Nix,
    commands: Commands,
    agent: Callable[[], IAgent],
) -> Reproducer:
    """Make the part; it is not started yet.

    :param maker: makes the images of clients.
    :param agent: makes an agent for requests to other registries.
    """
    packers, storage = Packers(Starts(reactor), reactor, 1), Rehearsal()
    layers = LayerMaker(storage, Cache(storage), nix, packers, images.compression)
    return Reproducer(
        reactor,
        builder,
        cache,
        nix,
        Rebuilder(reactor, commands, images.nix_timeout),
        attrs.evolve(maker, storage=storage, layers=layers),
        OtherRegistry(reactor, agent).manifest,
        packers.stop,
        images.verify_sample,
    )
