"""The colours of the picture, light and dark; report.css holds the same ones for the page around it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours as #rrggbb.

    `ramp` runs from the first iteration to the last, `tints` alternate from token to token. `dream`, `dataset` and
    `random` are what is compared: told apart by people who do not see red or green, and by their brightness in print.
    """

    background: str
    ink: str
    muted: str
    grid: str
    ramp: tuple[str, ...]
    line: str
    overall: str
    fluent: str
    badge_ink: str
    tints: tuple[str, str]
    dream: str
    dataset: str
    random: str


LIGHT = Palette(
    background="#ffffff",
    ink="#1b2330",
    muted="#5a6575",
    grid="#e8ebf0",
    ramp=("#c9d6e8", "#7fa6d6", "#2c5f9e"),
    line="#3a4656",
    overall="#c2410c",
    fluent="#0f766e",
    badge_ink="#ffffff",
    tints=("#e6edf7", "#f3ecdf"),
    dream="#1c4f8f",
    dataset="#d9730d",
    random="#8d97a5",
)
DARK = Palette(
    background="#171b22",
    ink="#e7eaf0",
    muted="#a0abba",
    grid="#2a313c",
    ramp=("#2b3a50", "#3f6da6", "#86b6f2"),
    line="#c3ccd8",
    overall="#fb923c",
    fluent="#2dd4bf",
    badge_ink="#171b22",
    tints=("#27364b", "#3a342a"),
    dream="#8ec2ff",
    dataset="#e08a2e",
    random="#7a8596",
)
