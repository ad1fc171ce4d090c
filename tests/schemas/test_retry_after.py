from __future__ import annotations

from datetime import UTC, datetime

import pytest

from serve_app.schemas.retry_after import read_retry_after, write_retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("3", 3.0),
        (" 7 ", 7.0),
        ("0.25", 0.25),
        ("-3", 0.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Fri, 02 Jan 2026 03:04:15 -0000", 10.0),
        ("Fri, 02 Jan 2026 03:04:15", 10.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),
        ("soon", None),
        ("²", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_read_retry_after_reads_seconds_and_dates(value: str | None, expected: float | None) -> None:
    assert read_retry_after(value, NOW) == expected


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.4, "1"), (2.6, "3"), (60.0, "60")])
def test_write_retry_after_gives_whole_seconds_that_are_read_back(seconds: float, header: str) -> None:
    assert write_retry_after(seconds) == header
    assert read_retry_after(header, NOW) == float(header)
