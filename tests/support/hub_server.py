"""A server on loopback that speaks as much of the Hugging Face hub's protocol as a download needs, and fails on demand.

Like the hub it has two addresses: one for questions and small files, and a storage that large files are redirected to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LARGE = (".safetensors", ".gguf", ".bin", ".pth")
TOKEN = "hf_good"


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    file: str = ""
    start: int = 0
    token: str | None = None
    storage: bool = False


@dataclasses.dataclass
class Repo:
    """A repository: a folder for each commit, and what its branches stand for."""

    commits: dict[str, Path] = dataclasses.field(default_factory=dict)
    branches: dict[str, str] = dataclasses.field(default_factory=dict)
    private: bool = False
    # "files": anyone may read the list of files, as on the hub; "all": not even that.
    gated: str = ""


class HubServer:
    """The hub, and what it was asked for.

    Attributes:
        asked: requests in their order.
        status: if not 0, the answer to every question.
        text: if not empty, the answer to every question, by something that is no hub.
        stalled: files whose content never comes.
        cuts: for a file, how many bytes each of its next answers gives before the connection is cut.
        sent: for a file, what is sent in its content's place.
        absent: files that are listed, and not there.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.repos: dict[str, Repo] = {}
        self.status = 0
        self.text = ""
        self.stalled: set[str] = set()
        self.cuts: dict[str, list[int]] = {}
        self.sent: dict[str, bytes] = {}
        self.absent: set[str] = set()
        self.url = self.storage_url = ""
        self.ended = threading.Event()

    def add(self, name: str, folder: Path, branch: str = "main") -> str:
        """Make a folder the newest commit of a branch; returns the commit."""
        content = hashlib.sha1(f"{name} {folder}".encode())
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content.update(path.read_bytes())
        commit = content.hexdigest()
        repo = self.repos.setdefault(name, Repo())
        repo.commits[commit], repo.branches[branch] = folder, commit
        return commit

    def files(self, method: str = "GET") -> list[str]:
        """The files whose content (or, by HEAD, headers) was asked for, without what the hub sent on to the storage."""
        return [
            one.file
            for one in self.asked
            if one.method == method and one.file and (one.storage or not _large(one.file))
        ]

    def starts(self, file: str) -> list[int]:
        """Where in a file each request for its content began."""
        return [one.start for one in self.asked if one.method == "GET" and one.file == file and one.storage]

    @contextlib.contextmanager
    def running(self) -> Iterator[HubServer]:
        """Serve until the end of the block."""
        servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(storage)) for storage in (False, True)]
        # Of different names: what is of one name may see the login.
        self.url = f"http://127.0.0.1:{servers[0].server_address[1]}"
        self.storage_url = f"http://localhost:{servers[1].server_address[1]}"
        for server in servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield self
        finally:
            self.ended.set()
            for server in servers:
                server.shutdown()
                server.server_close()

    def _handler(self, storage: bool) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                _answer(hub, self, storage)

            def do_GET(self) -> None:
                _answer(hub, self, storage)

        return Handler


def _answer(hub: HubServer, request: BaseHTTPRequestHandler, storage: bool) -> None:
    path = urllib.parse.urlsplit(request.path).path
    found = re.match(r"bytes=(\d+)-$", request.headers.get("Range", ""))
    given = request.headers.get("Authorization")
    asked = Asked(
        request.command, path, "", int(found[1]) if found else 0, given and given.removeprefix("Bearer "), storage
    )
    parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
    if storage:
        commit, file = parts[0], "/".join(parts[1:])
        hub.asked.append(dataclasses.replace(asked, file=file))
        folder = next(repo.commits[commit] for repo in hub.repos.values() if commit in repo.commits)
        _send_file(hub, request, file, folder, commit, asked.start)
        return
    api = parts[:2] == ["api", "models"]
    marker = "revision" if api else "resolve"
    parts = parts[2:] if api else parts
    where = parts.index(marker) if marker in parts else len(parts)
    name, rest = "/".join(parts[:where]), parts[where + 1 :]
    file = "" if api else "/".join(rest[1:])
    hub.asked.append(dataclasses.replace(asked, file=file))
    repo = hub.repos.get(name)
    if hub.text:
        _send(request, 200, hub.text.encode())
    elif hub.status:
        _refuse(request, hub.status, "", "the hub is unwell")
    elif repo is None or (repo.private and asked.token != TOKEN):
        # Whether a repository is there is told to those alone who may read it.
        _refuse(request, 404 if asked.token == TOKEN else 401, "RepoNotFound", "Repository not found")
    elif repo.gated and asked.token != TOKEN and (not api or repo.gated == "all"):
        _refuse(request, 403 if asked.token else 401, "GatedRepo", f"Access to model {name} is restricted.")
    else:
        revision = rest[0] if rest else "main"
        commit = revision if revision in repo.commits else repo.branches.get(revision, "")
        if not commit:
            _refuse(request, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif api:
            _send(request, 200, json.dumps(_listing(name, commit, repo.commits[commit], hub.absent)).encode())
        elif not (repo.commits[commit] / file).is_file():
            _refuse(request, 404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        else:
            _send_file(hub, request, file, repo.commits[commit], commit, asked.start, redirect=_large(file))


def _listing(name: str, commit: str, folder: Path, absent: set[str]) -> dict[str, Any]:
    siblings = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        file, content = str(path.relative_to(folder)), path.read_bytes()
        entry: dict[str, Any] = {"rfilename": file, "size": len(content), "blobId": _git_id(content)}
        if _large(file):
            entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
        siblings.append(entry)
    siblings += [{"rfilename": file, "size": 1, "blobId": "0" * 40} for file in sorted(absent)]
    return {"id": name, "sha": commit, "siblings": siblings, "tags": [], "downloads": 0, "private": False}


def _send_file(
    hub: HubServer,
    request: BaseHTTPRequestHandler,
    file: str,
    folder: Path,
    commit: str,
    start: int,
    redirect: bool = False,
) -> None:
    content = (folder / file).read_bytes()
    tag = hashlib.sha256(content).hexdigest() if _large(file) else _git_id(content)
    headers = {"X-Repo-Commit": commit, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
    if redirect:
        headers |= {
            "X-Linked-ETag": f'"{tag}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{hub.storage_url}/{commit}/{urllib.parse.quote(file)}",
        }
        _send(request, 302, b"Found", headers)
        return
    if request.command == "GET" and file in hub.stalled:
        hub.ended.wait(60)
    if request.command == "GET":
        content = hub.sent.get(file, content)
    total = len(content)
    if start:
        headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
    cuts = hub.cuts.get(file)
    cut = cuts.pop(0) if cuts and request.command == "GET" else None
    _send(request, 206 if start else 200, content[start:], headers, cut)


def _refuse(
    request: BaseHTTPRequestHandler, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> None:
    told = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
    body = json.dumps({"error": message}).encode()
    _send(request, status, body, {**(headers or {}), **told, "Content-Type": "application/json"})


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    cut: int | None = None,
) -> None:
    request.send_response(status)
    for key, value in (headers or {}).items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command == "HEAD":
        return
    with contextlib.suppress(OSError):
        # Who does not want the rest may go.
        request.wfile.write(body if cut is None else body[:cut])
        request.wfile.flush()
    if cut is not None:
        request.close_connection = True
        request.connection.shutdown(socket.SHUT_RDWR)


def _large(file: str) -> bool:
    return file.endswith(LARGE)


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
