"""The Chromium that is installed (Debian: apt-get install chromium), driven by playwright; it downloads none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = None if CHROMIUM else "no Chromium is installed; Debian: apt-get install chromium"
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
"""CSS pixels"""
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
Scheme = Literal["light", "dark"]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless one."""
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()


def opened(browser: Browser, file: Path, size: str, scheme: Scheme, **options: Any) -> tuple[Page, list[str]]:
    """The page, and what it complained of or asked the network for."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
    shown = context.new_page()
    told: list[str] = []
    shown.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
    shown.on("pageerror", lambda error: told.append(f"error: {error}"))
    shown.on("request", lambda asked: told.append(asked.url) if asked.url != file.as_uri() else None)
    shown.goto(file.as_uri())
    return shown, told
