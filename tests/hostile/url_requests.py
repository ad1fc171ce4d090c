"""Addresses that a service must not visit for strangers. None of them leaves the machine, even where it is visited."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.request_case import INVALID, NOT_FETCHED, PNG_BASE64, TOO_LARGE, RequestCase, post_job

PRIVATE = (
    "http://127.0.0.1/",
    "http://127.0.0.1:8000/healthz",
    "https://127.0.0.1/a.png",
    "http://127.0.0.1:22/",
    "http://127.255.255.254/",
    "http://localhost/",
    "http://LOCALHOST:8000/",
    "http://localhost./",
    "http://0.0.0.0:8000/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200/latest/meta-data/",
    "http://192.0.0.192/latest/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fc00::1]/",
    "http://[ff02::1]/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://user@127.0.0.1/",
    "http://user:password@127.0.0.1/",
    "http://no-such-host.invalid@127.0.0.1/",
    "http://127.0.0.1@no-such-host.invalid/",
    "http://127.0.0.1/#@no-such-host.invalid/",
    "http://no-such-host.invalid/a.png",
)

SCHEMES = (
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "FILE:///etc/passwd",
    "ftp://127.0.0.1/a.png",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1:11211/stats",
    "ldap://127.0.0.1/",
    "s3://bucket/a.png",
    "jar:http://127.0.0.1!/a.png",
    "javascript:alert(1)",
    f"data:image/png;base64,{PNG_BASE64}",
    "ws://127.0.0.1/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/images",
    "/etc/passwd",
    "a.png",
    "//127.0.0.1/a.png",
    "http:127.0.0.1",
    "http:/127.0.0.1/",
    "http://",
    "http:///etc/passwd",
    "https://:443/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:-1/",
    "http://[::1/",
    "http://[127.0.0.1]/",
    "http://[fe80::1%25lo]/",
    "http://127.0.0.1\r\nHost: evil/",
    "http://127.0.0.1/\r\nX-Evil: 1",
    "http://127.0.0.1 /",
    " http://127.0.0.1/",
    "ht\ttp://127.0.0.1/",
    "http://127.0.0.1\\@no-such-host.invalid/",
    "http://\x00/",
    "http://%31%32%37.0.0.1/",
    "http://xn--a/",
    "http://..../",
    "http://" + "a" * 300 + ".invalid/",
    "http://\ud800/",
    "",
    " ",
)


def url_cases() -> Iterator[RequestCase]:
    """Make all cases of this file."""
    for index, url in enumerate(PRIVATE):
        yield post_job(f"address {index}: {ascii(url)[:50]}", NOT_FETCHED, generated_image={"url": url})
    # What is no http(s) address at all may be said to be a wrong field as well.
    for index, url in enumerate(SCHEMES):
        yield post_job(f"no address {index}: {ascii(url)[:50]}", NOT_FETCHED, INVALID, generated_image={"url": url})
    long_url = {"url": "http://127.0.0.1/" + "a" * 100_000}
    yield post_job("address of 100,000 characters", NOT_FETCHED, INVALID, TOO_LARGE, generated_image=long_url)
    images = [{"data": PNG_BASE64}, {"url": "http://127.0.0.1/"}]
    yield post_job("address beside a right image", NOT_FETCHED, contextual_images=images)
