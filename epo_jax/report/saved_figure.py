"""Pictures as files for papers: PNG to look at, PDF to print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

DPI = 240
# Letters go into the PDF as letters of an embedded TrueType font, as publishers ask for.
_PDF = {"pdf.fonttype": 42, "pdf.use14corefonts": False}
# No dates and no versions inside: the same data gives the same bytes.
_NO_METADATA = {"Creator": None, "Producer": None, "CreationDate": None}


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Writes path.png and path.pdf, the same bytes for the same data.

    Args:
        figure: What to write.
        path: Without ending.

    Returns:
        The two files.

    Raises:
        OSError: A file cannot be written.
    """
    return write_figures([figure], path)


def write_figures(figures: Sequence[Figure], path: str | os.PathLike[str]) -> list[Path]:
    """Writes the pages of a picture: path.pdf with all of them, and path.png, or path-1.png and so on for several.

    Returns:
        The files, the PNGs first.

    Raises:
        OSError: A file cannot be written.
    """
    base = Path(path)
    several = len(figures) > 1
    files = [base.with_name(f"{base.name}-{page}.png" if several else f"{base.name}.png") for page in _pages(figures)]
    for figure, file in zip(figures, files, strict=True):
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs={"optimize": True})
    document = base.with_name(f"{base.name}.pdf")
    with matplotlib.rc_context(_PDF), PdfPages(document, metadata=_NO_METADATA) as pages:
        for figure in figures:
            pages.savefig(figure)
    return [*files, document]


def _pages(figures: Sequence[Figure]) -> range:
    return range(1, len(figures) + 1)
