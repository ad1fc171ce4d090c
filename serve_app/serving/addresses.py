"""Decide which IP addresses the service may fetch from: public ones only.

This prevents server-side request forgery: untrusted callers must not reach private servers through this service. This
module looks no host names up.
"""

from __future__ import annotations

import ipaddress

# Source: IANA IPv4 Special-Purpose Address Registry, and RFC 5771 (multicast). Not `ipaddress.is_global`, because its
# answers differ between Python versions.
_REFUSED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network, unspecified
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT; holds 100.100.100.200, a cloud's metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # a cloud's metadata at a public address (Azure WireServer)
            "169.254.0.0/16",  # link-local; holds 169.254.169.254, most clouds' metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; holds 192.0.0.192, a cloud's metadata
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT relays
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
# Source: IANA IPv6 Global Unicast Address Space and IPv6 Special-Purpose Address Registry. Everything outside it is
# refused: loopback, mapped, compatible and translated (64:ff9b::/96) IPv4, unique local, link-local, multicast.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: carries an IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: str) -> bool:
    """Return whether an address is a public unicast address.

    Args:
        address: IPv4 in its four-part decimal form, or IPv6 without brackets, with or without a zone.

    Returns:
        False for private, local, multicast, reserved, translated and metadata addresses, and for any other text.

    >>> is_public("93.184.215.14"), is_public("169.254.169.254"), is_public("example.com")
    (True, False, False)
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _REFUSED_V4)
    if parsed.scope_id is not None or parsed not in _GLOBAL_V6:
        return False
    return not any(parsed in network for network in _REFUSED_V6)
