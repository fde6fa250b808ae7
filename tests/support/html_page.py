"""A page read back strictly, and texts that a page must not take for its own."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "source", "br", "link", "input"}
PNG = b"\x89PNG\r\n\x1a\n0"
HOSTILE = (
    "</script><script>alert(1)</script>", "\"'&<>`", "&lt;b&gt;", "<img src=http://x onerror=alert(1)>", "\x00\x07\x1b",
    "\u202egnp.exe", "\u05e9\u05dc\u05d5\u05dd", "[bold]", "$x^2$", "{{ 7*7 }}", "{% raw %}", "\r\n\t", "\ud800", " a ",
)  # fmt: skip


class Page(HTMLParser):
    """Reads a page; its text, its scripts, its attributes, and that every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
            return
        self.text += data
        if "td" in self.open:
            self.cells[-1] += data
