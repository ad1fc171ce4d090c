"""What may be shown of a URL in documents, messages and logs: a signed URL is a key, so its secrets are cut off."""

from __future__ import annotations

import re

_USER = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*:)?//[^/]*@")


def shown_url(url: str) -> str:
    """Cut user, query and fragment off a URL.

    Args:
        url: any URL, also one that is not well-formed.

    >>> shown_url("https://me:secret@images.test/a%20b.png?X-Signature=abc#part")
    'https://images.test/a%20b.png'
    """
    return _USER.sub(r"\1//", re.split(r"[?#]", url, maxsplit=1)[0])
