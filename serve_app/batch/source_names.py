"""Interprets the paths and URIs of images in a manifest: finds the scheme, compares names, removes secrets.

In a path or a store's key, `#`, `?`, `%` and `::` are ordinary characters; in a `file:` URI, `%23` is `#`. Only
`file_key_of` reads the file system, because it follows symbolic links.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from serve_app.schemas.file_uri import is_file_uri, local_path
from serve_app.schemas.shown_url import shown_url, user_of, without_user

WEB = frozenset({"http", "https"})
ARCHIVES = frozenset({"zip", "tar", "libarchive"})
"""Archives. In fsspec's `zip://a.png::/data/b.zip`, `::` separates the member and the file; elsewhere it is part of a
name."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # at least two letters, because `C:` is a drive
_AZURE = frozenset({"abfs", "abfss", "adl", "az", "wasb", "wasbs"})
"""Stores whose URIs name the container where others name the user: `abfs://container@account/a.png`."""

_AROUND = r"[\s\x00-\x1f\"'`<«\u2018-\u201f\ufeff\u200b-\u200f\u2060]*"
_TO_SCHEME = re.compile(rf"{_AROUND}(?=https?:|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)
"""Characters before a URI's scheme that were copied by mistake: white space, quotes, a byte order mark; or none."""

_SIGNED = re.compile(r"\?(?=(?:.*&)?(?:x-amz-signature|x-amz-security-token|x-goog-signature|signature|sig)=)", re.I)
"""The start of a query with a signature. Such a query is removed from paths too: an address without its scheme, such as
`host/a.png?sig=…`, counts as a path."""

_OF_SIGNATURES = {
    "x-amz-signature": re.compile(r"x-amz-.+"),
    "x-goog-signature": re.compile(r"x-goog-.+"),
    "signature": re.compile(r"signature|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid"),
    "sig": re.compile(r"sig|s[vrpet]|ss|srt|spr|sip|sk[tesv]|skoid|sktid"),
}
"""By the signature's parameter: the parameters that belong to the signature and do not select an image. Source: AWS
Signature 4; Google Cloud Storage V4; AWS Signature 2, Google's V2 and CloudFront's signed URLs; Azure's shared access
signatures."""


def scheme_of(source: str) -> str | None:
    """Return a URI's scheme in lower case; None for a path."""
    if is_file_uri(source):
        return "file"
    match = _SCHEME.match(source)
    return match.group(1).lower() if match else None


def fault_of(source: str) -> str | None:
    """Say what is wrong with a malformed URI, which would otherwise count as a path; None if nothing is wrong.

    >>> fault_of("https:/host/a.png"), fault_of("https://host/a.png")
    ('not a valid http:// or https:// address', None)
    """
    if scheme_of(source) is not None or (before := _before_uri(source)) is None:
        return None
    if _is_web(source[before:]):
        return "not a valid http:// or https:// address"
    return f"{source[:before]!a} stands before the scheme"


def shown(source: str) -> str:
    """Write a path or URI as results and messages show it, without secrets.

    A web address loses its user, query and fragment, a store's URI its user, and any signed address its query, also if
    it is malformed.

    >>> shown("https://me:secret@host:8/a.png?X-Amz-Signature=1#x"), shown("s3://bucket/a#1?.png"), shown("a?b.png")
    ('https://host:8/a.png', 's3://bucket/a#1?.png', 'a?b.png')
    """
    before = _before_uri(source)
    uri = source[before or 0 :]
    scheme = scheme_of(uri)
    if before is not None and _is_web(uri):
        return shown_url(uri)
    if scheme in ARCHIVES and "::" in uri:
        return "::".join(map(shown, uri.split("::")))
    signed = _SIGNED.search(uri)
    uri = uri[: signed.start()] if signed else uri
    if scheme is None or scheme == "file":
        return uri
    if scheme not in _AZURE:
        return without_user(uri)
    container = user_of(uri).partition(":")[0]
    return without_user(uri).replace("://", f"://{container}@", 1) if container else without_user(uri)


def without_secrets(text: str, source: str) -> str:
    """Remove from a message the parts of a source that `shown` removes."""
    if scheme_of(source) in ARCHIVES and "::" in source:
        for part in source.split("::"):
            text = without_secrets(text, part)
        return text
    name = shown(source)
    if name != source:
        text = text.replace(source, name)
        uri = source[_before_uri(source) or 0 :]
        rest = uri.partition("://")[2] or uri
        user = user_of(re.split(r"[?#]", uri, maxsplit=1)[0] if _is_web(uri) else uri)
        password = user.partition(":")[2] if scheme_of(uri) in _AZURE else user
        parts = [*re.split(r"[?#]", rest, maxsplit=1)[1:], password]
        for part in filter(None, parts):
            text = text.replace(part, "…")
    return text


def file_key_of(source: str, folder: Path) -> str:
    """Return a text that is equal for different names of one file, such as `./a.png`, `a.png` and `file:///…/a.png`.

    Args:
        source: the path or URI. A web address keeps its query, because it may select the image, but not a signature.
        folder: the folder from which relative paths start.
    """
    scheme = scheme_of(source)
    if scheme in {None, "file"}:
        return os.path.realpath(folder / local_path(source))
    start, rest = source.partition("://")[::2]
    if scheme in WEB:
        path, _, query = rest.partition("#")[0].partition("?")
        rest = "?".join(filter(None, [path, _without_signature(query)]))
    return f"{start.lower()}://{rest}"


def _before_uri(source: str) -> int | None:
    """Return the number of characters before a URI's scheme; None if the source is a path."""
    match = _TO_SCHEME.match(source)
    return match.end() if match else None


def _is_web(uri: str) -> bool:
    return uri.lower().startswith(("http:", "https:"))


def _without_signature(query: str) -> str:
    parts = query.split("&")
    names = [part.partition("=")[0].lower() for part in parts]
    signatures = [belongs for name, belongs in _OF_SIGNATURES.items() if name in names]
    kept = [
        part for part, name in zip(parts, names, strict=True) if not any(each.fullmatch(name) for each in signatures)
    ]
    return "&".join(kept)
