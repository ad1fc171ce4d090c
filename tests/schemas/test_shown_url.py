"""A shown URL has no user, query or fragment."""

from __future__ import annotations

import pytest

from serve_app.schemas.shown_url import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://images.test/a%20b.png?X-Signature=SECRET", "https://images.test/a%20b.png"),
        ("https://images.test/a.png#SECRET", "https://images.test/a.png"),
        ("https://images.test/a.png#SECRET?SECRET", "https://images.test/a.png"),
        ("https://images.test?SECRET", "https://images.test"),
        ("https://me:SECRET@images.test:8443/@a.png", "https://images.test:8443/@a.png"),
        ("https://me@SECRET@images.test/", "https://images.test/"),
        ("s3://key:SECRET@bucket/a.png?versionId=SECRET", "s3://bucket/a.png"),
        ("//me:SECRET@images.test/a.png", "//images.test/a.png"),
        ("https://images.test/a@b.png", "https://images.test/a@b.png"),
        ("not a url", "not a url"),
        (" https://me:SECRET@images.test/a.png?SECRET", "https://images.test/a.png"),
        ("https://me:SEC/RET@images.test/a.png", "https://images.test/a.png"),
        ("https://me:SEC/R@ET@images.test/a.png", "https://images.test/a.png"),
        ("https://me:SEC?RET@images.test/a.png", "https://me"),
        ("https://me:SEC#RET@images.test/a.png", "https://me"),
        ("https:/me:SECRET@images.test/a.png?SECRET", "https:/images.test/a.png"),
        ("https:me:SECRET@images.test/a.png", "https:images.test/a.png"),
        ("https:///me:SECRET@images.test/a.png", "https:///images.test/a.png"),
        ("http://images.test:8080/a@b.png", "http://images.test:8080/a@b.png"),
        ("http://[2001:db8::1]:8080/a@b.png", "http://[2001:db8::1]:8080/a@b.png"),
        ("http://images.test:8080?a@b", "http://images.test:8080"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
