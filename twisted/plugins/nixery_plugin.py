"""``twistd nixery``."""

from twisted.application.service import ServiceMaker

nixery = ServiceMaker(
    "Nixery",
    "nixery.plugin",
    "A container registry whose images are made on demand, by Nix.",
    "nixery",
)
