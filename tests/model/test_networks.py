"""Whose share an address counts for."""

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.networks import bounded_networks, network_of, networks_of


def test_clients() -> None:
    """A person has one IPv4 address, and a whole network of IPv6."""
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") == "2001:db8::/64"
    assert network_of("unix") == "unix"


def test_shares() -> None:
    """Turns are shared out between networks, and within each of them between smaller ones."""
    assert networks_of("192.0.2.1") == ("192.0.0.0/16", "192.0.2.0/24", "192.0.2.1")
    assert networks_of("2001:db8:1:234::/64") == (
        *("2001:db8:1::/48", "2001:db8:1:200::/56"),
        "2001:db8:1:234::/64",
    )
    for name in ("unix", "user alice", "user 192.0.2.1", "user 2001:db8::", ""):
        assert networks_of(name) == (name,)


def test_bounds() -> None:
    """Who has a /56 or a /48 has more than who has a /64, and not as much as all of its parts."""
    assert bounded_networks("192.0.2.1") == (("192.0.2.1", 1),)
    assert bounded_networks("unix") == (("unix", 1),)
    assert bounded_networks("2001:db8:1:234::/64") == (
        *(("2001:db8:1:234::/64", 1), ("2001:db8:1:200::/56", 2)),
        ("2001:db8:1::/48", 4),
    )


@given(st.one_of(st.builds(IPv4Address, st.integers(0, 2**32 - 1)), st.ip_addresses(v=6)))
def test_each_network_is_in_the_wider_one(address: IPv4Address | IPv6Address) -> None:
    """For every address, each network is part of the one before, and the last is the client."""
    client = network_of(str(address))
    networks = networks_of(client)
    assert networks[-1] == client
    sizes = [ip_network(each).num_addresses for each in networks]
    assert sizes == sorted(sizes, reverse=True)
    assert all(address in ip_network(each) for each in networks)
