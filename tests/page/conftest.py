"""A browser, a tab and a scripted service for the page's tests.

Without Chromium these tests are skipped; with GENSEG_REQUIRE_CHROMIUM=1 a missing Chromium is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.page.browser import Browser, Page, running
from tests.page.scripted import ScriptedService, served

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        if os.environ.get("GENSEG_REQUIRE_CHROMIUM") == "1":
            pytest.fail("GENSEG_REQUIRE_CHROMIUM=1, but Chromium is not installed")
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with running(program, tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab. Fails a test with an unexpected message on the console, or a request to another machine."""
    with browser.page() as tab:
        tab.window(1280)
        yield tab
        tab.js("new Promise((resolve) => setTimeout(resolve, 50))")  # the console's messages arrive
        unexpected = [each for each in tab.problems if not any(text in each for text in tab.expected)]
        assert unexpected == []
        assert [each for each in tab.addresses if not each.startswith(("http://127.0.0.1:", "blob:", "about:"))] == []


@dataclass(frozen=True)
class Scripted:
    """A scripted service and its address."""

    service: ScriptedService
    url: str


@pytest.fixture(scope="session")
def one_service() -> Iterator[Scripted]:
    """A service at one address, so that the browser has the page's files after the first test."""
    service = ScriptedService()
    with served(service) as url:
        yield Scripted(service, url)


@pytest.fixture
def scripted(one_service: Scripted) -> Scripted:
    """A service that answers as a test says."""
    one_service.service.reset()
    return one_service


def picture(path: Path, size: tuple[int, int] = (64, 48), grey: int = 100) -> Path:
    """Write an evenly grey picture, as PNG."""
    Image.fromarray(np.full((size[1], size[0], 3), grey, np.uint8)).save(path)
    return path
