"""What may be shown of a URL in documents, messages and logs: a signed URL is a key, so its secrets are cut off."""

from __future__ import annotations

import re

_USER = re.compile(
    r"^([a-z][a-z0-9+.-]*:[/\\]*|//)"
    r"([^/\\]*@"
    r"|[^/\\@\[:]*:(?![0-9]*(?:[/\\]|$)).*@)",  # no port follows the colon, so a password does: with a slash in it
    re.IGNORECASE,
)
_NO_PORT = re.compile(r"^([a-z][a-z0-9+.-]*:[/\\]*|//)([^/\\@\[:]*):(?![0-9]*(?:[/\\]|$)).*", re.IGNORECASE)


def shown_url(url: str) -> str:
    """Cut user, query and fragment off a URL, and blanks around it.

    Args:
        url: any URL, also one that is not well-formed.

    >>> shown_url("https://me:secret@images.test/a%20b.png?X-Signature=abc#part")
    'https://images.test/a%20b.png'
    """
    address, *rest = re.split(r"[?#]", url.strip(), maxsplit=1)
    if rest and "@" in rest[0]:  # the password may hold the `?` itself
        address = address if "@" in address else _NO_PORT.sub(r"\1\2", address)
    return without_user(address)


def without_user(url: str) -> str:
    """Cut the user and the password off a URI of any scheme.

    Args:
        url: any URI; a password may hold `/` and `@`, although these should be percent-encoded.

    >>> without_user("s3://key:pass/word@bucket/a.png"), without_user("http://host:80/a@b.png")
    ('s3://bucket/a.png', 'http://host:80/a@b.png')
    """
    return _USER.sub(r"\1", url)


def user_of(url: str) -> str:
    """Return the user and the password that `without_user` cuts off; "" where there is none."""
    match = _USER.match(url)
    return match.group(2).removesuffix("@") if match else ""
