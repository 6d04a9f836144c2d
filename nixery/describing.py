"""A description of what would run, for operators."""

import os
import shutil

from nixery.model.image import platform_of
from nixery.model.open_telemetry import collector_of
from nixery.model.source import (
    Channel,
    Flake,
    GitRepository,
    LocalFolder,
    Source,
    hide_credentials,
    without_credentials,
)
from nixery.model.tags import LATEST
from nixery.model.wanted_ahead import WantedAhead
from nixery.nix.commands import find_store
from nixery.nix.evaluation import mode_of
from nixery.nix_parts import make_confinement
from nixery.requirements import version
from nixery.settings import NAMES, Settings
from nixery.unknown import service_links


def describe(settings: Settings) -> str:
    """Describe what would run, one line per topic."""
    images, workers = settings.images, settings.address.workers
    store = find_store(images.nix_store, settings.state, os.environ)
    ahead, told = settings.ahead, settings.ahead.notify_url
    links, collector = service_links(os.environ, NAMES), collector_of(os.environ)
    return "\n".join(
        [
            f"version      {version()}",
            f"listens on   {settings.address.endpoint}",
            *([f"processes    {workers}, of which one builds"] if workers > 1 else []),
            f"may pull     {_access(settings)}",
            *([f"signs with   {_signing(settings)}"] if settings.signing.keys else []),
            f"packages     {_full_name(settings.packages.source)}",
            f"platforms    {', '.join(map(platform_of, settings.systems))}",
            f"tags         {_served_tags(settings)}",
            f"evaluation   {_evaluation(settings, store)}",
            f"storage      {_storage(settings)}",
            f"Nix          {shutil.which('nix-build')}, store {store or '/nix/store'}",
            f"state        {settings.state}",
            f"layers       at most {images.layer_budget}, compressed {images.compression}",
            f"builders     at most {images.nix_timeout} s each",
            f"requests     held for {settings.shown.hold:g} s, then redirected to themselves",
            *([f"in advance   {_ahead(ahead.wanted)}"] if ahead.wanted else []),
            *([f"tells        {without_credentials(told)} of builds"] if told else []),
            *([f"traces       sent to {without_credentials(collector)}"] if collector else []),
            *([f"ignores      {links_words(links)}"] if links else []),
        ]
    )


def _ahead(wanted: WantedAhead) -> str:
    """Which images are made in advance."""
    names = [f"{image.name}:{image.tag}" for image in wanted.images]
    most = [f"the {wanted.most_pulled} that are pulled most"] if wanted.most_pulled else []
    return ", ".join([*names, *most])


_NAMED_BY = {
    LocalFolder: "NIXERY_PKGS_PATH",
    Flake: "NIXERY_FLAKE",
    GitRepository: "NIXERY_PKGS_REPO",
    Channel: "NIXERY_CHANNEL",
}


def named_by(source: Source) -> str:
    """The setting that names the package set, with its value."""
    return f"{_NAMED_BY[type(source)]} names {_full_name(source)}"


def _full_name(source: Source) -> str:
    return f"the folder {source.path}" if isinstance(source, LocalFolder) else str(source)


def _served_tags(settings: Settings) -> str:
    patterns = settings.packages.tags.patterns
    if isinstance(settings.packages.source, LocalFolder | Flake) or not patterns:
        return LATEST
    which = "in the histories of these"
    if settings.packages.unreachable_commits:
        which = "of pull requests and forks too"
    return f"{LATEST} {' '.join(patterns)}; commits {which}"


def _access(settings: Settings) -> str:
    access = settings.access
    ways = [
        *(["passwords"] if access.htpasswd else []),
        *(["static tokens"] if access.tokens else []),
        *([f"tokens of {settings.access.jwt_realm}"] if access.jwt_key else []),
    ]
    who = f"users with {', '.join(ways)}" if ways else "everybody"
    return f"{who}, as {access.rules} says" if access.rules else who


def _signing(settings: Settings) -> str:
    host = settings.signing.host
    return f"{', '.join(settings.signing.keys)}, " + (f"for {host}" if host else "naming no host")


def _evaluation(settings: Settings, store: str | None) -> str:
    mode = mode_of(make_confinement(settings, os.environ, store))
    if settings.evaluation.mode == "open":
        return mode
    path, uris = os.environ.get("NIX_PATH"), settings.evaluation.allowed_uris
    fetch = f"; it may fetch from {', '.join(map(hide_credentials, uris))}" if uris else ""
    return f"{mode}{fetch}" + (f"; it may read what NIX_PATH names: {path}" if path else "")


def _storage(settings: Settings) -> str:
    if settings.bucket is None:
        return settings.storage_path
    way = "load from it" if settings.storage.redirect else "get copies from here"
    return f"{settings.storage_url}; clients {way}"


def links_words(links: list[str]) -> str:
    """The reason why some variables are no settings."""
    return f"{', '.join(links)}: set by Kubernetes for a Service of that name, not settings"
