from __future__ import annotations

import pytest

from serve_app.serving.addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "100.128.0.1",
        "172.32.0.1",
        "198.20.0.1",
        "2606:4700::1111",
        "2a00:1450::1",
    ],
)
def test_is_public_accepts_public_servers(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("0.0.0.0", id="unspecified"),
        pytest.param("10.1.2.3", id="private-10"),
        pytest.param("172.16.0.1", id="private-172"),
        pytest.param("172.31.255.255", id="private-172-end"),
        pytest.param("192.168.1.1", id="private-192"),
        pytest.param("100.64.0.1", id="carrier-nat"),
        pytest.param("100.100.100.200", id="metadata-in-carrier-nat"),
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.255.255.254", id="loopback-end"),
        pytest.param("169.254.169.254", id="metadata"),
        pytest.param("168.63.129.16", id="metadata-at-a-public-address"),
        pytest.param("192.0.0.192", id="metadata-in-protocol-assignments"),
        pytest.param("192.0.2.1", id="documentation"),
        pytest.param("198.18.0.1", id="benchmarks"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("239.255.255.250", id="multicast-ssdp"),
        pytest.param("240.0.0.1", id="reserved"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("::", id="v6-unspecified"),
        pytest.param("::1", id="v6-loopback"),
        pytest.param("::ffff:8.8.8.8", id="v6-mapped-public"),
        pytest.param("::ffff:127.0.0.1", id="v6-mapped-loopback"),
        pytest.param("::127.0.0.1", id="v6-compatible"),
        pytest.param("::ffff:0:127.0.0.1", id="v6-translated"),
        pytest.param("64:ff9b::7f00:1", id="nat64"),
        pytest.param("64:ff9b:1::7f00:1", id="nat64-local"),
        pytest.param("2002:7f00:1::", id="6to4"),
        pytest.param("2001:0:7f00:1::", id="teredo"),
        pytest.param("2001:db8::1", id="v6-documentation"),
        pytest.param("fc00::1", id="unique-local"),
        pytest.param("fd00:ec2::254", id="v6-metadata"),
        pytest.param("fe80::1", id="v6-link-local"),
        pytest.param("fe80::1%eth0", id="v6-link-local-with-zone"),
        pytest.param("2606:4700::1111%eth0", id="v6-zone"),
        pytest.param("fec0::1", id="site-local"),
        pytest.param("ff02::1", id="v6-multicast"),
        pytest.param("4000::1", id="v6-unassigned"),
        pytest.param("localhost", id="name"),
        pytest.param("0177.0.0.1", id="octal"),
        pytest.param("", id="nothing"),
    ],
)
def test_is_public_refuses_everything_else(address: str) -> None:
    assert not is_public(address)
