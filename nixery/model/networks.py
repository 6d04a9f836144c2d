"""The networks by which resources are shared out between clients: pure rules.

With IPv6, one person is given a /64 at least, and often a /56 or a /48: an address stands for
little. With IPv4, each address counts for itself, and those of one network share the turns that are
left when others want some too.

A client is the text of an address or network, or any other name, such as ``unix`` or ``user x``.
"""

from functools import lru_cache
from ipaddress import ip_network

_IPV6 = (48, 56, 64)
_IPV4 = (16, 24)
_FACTORS = (4, 2, 1)
"""How many times the bound of one client the networks of :data:`_IPV6` may have."""


@lru_cache(10_000)
def network_of(client: str) -> str:
    """The smallest unit that one person has of addresses: with IPv6, a whole /64."""
    return str(ip_network(f"{client}/64", strict=False)) if ":" in client else client


@lru_cache(10_000)
def networks_of(client: str) -> tuple[str, ...]:
    """All that a client belongs to when something is shared out, the widest first.

    :return: ends with what :func:`network_of` says.
    """
    try:
        network = ip_network(client, strict=False)
    except ValueError:
        return (client,)
    if network.version == 4:
        wider = (str(network.supernet(new_prefix=length)) for length in _IPV4)
        return (*wider, client)
    return tuple(str(network.supernet(new_prefix=length)) for length in _IPV6)


@lru_cache(10_000)
def bounded_networks(client: str) -> tuple[tuple[str, int], ...]:
    """The networks of a client that are bounded, the smallest first.

    An IPv4 network is not: its addresses belong to people who know nothing of each other.

    :return: each with how many times as much as one client it may have.
    """
    if ":" not in client:
        return ((client, 1),)
    return tuple(zip(networks_of(client), _FACTORS, strict=True))[::-1]
