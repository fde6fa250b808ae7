"""About a million tokens of free English text out of Debian's packages, as a corpus to scan.

python scripts/debian_corpus.py --output=corpus

fetches jargon-text (the Jargon File, public domain), debian-handbook, debian-reference-en, developers-reference and the
process documents of linux-doc-6.1 (all GPL-2 or later versions of it) with `apt-get download`, unpacks them without
installing, and writes text files that scripts/scan_corpus.py reads. It prints how many and of how many characters.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from absl import flags

from epo_jax import command_line
from epo_jax.errors import EpoError, one_line

OUTPUT = flags.DEFINE_string("output", None, "folder to write; made if it is not there", required=True)
PACKAGES = ("jargon-text", "debian-handbook", "debian-reference-en", "developers-reference", "linux-doc-6.1")
_SINGLE = (
    "jargon-text/jargon.txt.gz",
    "debian-reference/debian-reference.en.txt.gz",
    "developers-reference/developers-reference.txt.gz",
)
_HANDBOOK = "debian-handbook/html/en-US/*.html"
_PROCESS = "linux-doc-6.1/Documentation/process/*.rst.gz"
_UNSEEN = ("script", "style", "head")
_ENDS = ("p", "div", "li", "h1", "h2", "h3", "h4", "pre", "tr")


class _Text(HTMLParser):
    """The text of a page, a line for each block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in _UNSEEN

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN
        if tag in _ENDS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)


def main() -> None:
    """Fetch, unpack, write, print."""
    output = Path(OUTPUT.value or "")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as room:
        for package in PACKAGES:
            _run("apt-get", "download", "-q", package, folder=room)
        for archive in sorted(Path(room).glob("*.deb")):
            _run("dpkg-deb", "-x", str(archive), f"{room}/files", folder=room)
        # Packages lay their texts below share or share/doc.
        for pattern in _SINGLE:
            for path in _found(room, pattern):
                shutil.copy(path, output / path.name)
        for path in _found(room, _PROCESS):
            (output / "linux-process").mkdir(exist_ok=True)
            shutil.copy(path, output / "linux-process" / path.name)
        for path in _found(room, _HANDBOOK):
            page = _Text()
            page.feed(path.read_text(encoding="utf-8"))
            text = re.sub(r"\n\s*\n+", "\n\n", "".join(page.parts)).strip()
            (output / "debian-handbook").mkdir(exist_ok=True)
            (output / "debian-handbook" / f"{path.stem}.txt").write_text(text, encoding="utf-8")
    files = sorted(path for path in output.rglob("*") if path.is_file())
    size = sum(len(_read(path)) for path in files)
    print(f"{len(files)} files of {size:,} characters in {output}")


def _found(room: str, pattern: str) -> list[Path]:
    share = Path(room) / "files" / "usr" / "share"
    found = sorted({*share.glob(pattern), *(share / "doc").glob(pattern)})
    if not found:
        raise EpoError(f"--output: the packages hold no {pattern}; they were made for Debian 12")
    return found


def _run(*command: str, folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise EpoError(f"--output: {command[0]} is not here; this needs Debian or a system made of it") from error
    except subprocess.CalledProcessError as error:
        raise EpoError(f"--output: {' '.join(command[:3])} failed ({one_line(error.stderr)})") from error


def _read(path: Path) -> str:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode("utf-8")
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    command_line.start(main, "debian_corpus")
