"""Removes secrets from URLs before they are shown in documents, messages and logs."""

from __future__ import annotations

import re

_USER = re.compile(
    r"^([a-z][a-z0-9+.-]*:[/\\]*|//)"
    r"([^/\\]*@"
    r"|[^/\\@\[:]*:(?![0-9]*(?:[/\\]|$)).*@)",  # after the colon is not a port, but a password with a slash in it
    re.IGNORECASE,
)
_NO_PORT = re.compile(r"^([a-z][a-z0-9+.-]*:[/\\]*|//)([^/\\@\[:]*):(?![0-9]*(?:[/\\]|$)).*", re.IGNORECASE)


def shown_url(url: str) -> str:
    """Remove the user, password, query and fragment of a URL, and the white space around it.

    The query of a signed URL gives access to the file, so it is a secret.

    Args:
        url: any URL; it may be malformed.

    >>> shown_url("https://me:secret@images.test/a%20b.png?X-Signature=abc#part")
    'https://images.test/a%20b.png'
    """
    address, *rest = re.split(r"[?#]", url.strip(), maxsplit=1)
    if rest and "@" in rest[0]:  # the `?` or `#` may be part of the password
        address = address if "@" in address else _NO_PORT.sub(r"\1\2", address)
    return without_user(address)


def without_user(url: str) -> str:
    """Remove the user and the password of a URI of any scheme.

    Args:
        url: any URI. A password may contain `/` and `@`, although they should be percent-encoded.

    >>> without_user("s3://key:pass/word@bucket/a.png"), without_user("http://host:80/a@b.png")
    ('s3://bucket/a.png', 'http://host:80/a@b.png')
    """
    return _USER.sub(r"\1", url)


def user_of(url: str) -> str:
    """Return the user and password that `without_user` removes, such as "me:secret"; "" if there are none."""
    match = _USER.match(url)
    return match.group(2).removesuffix("@") if match else ""
