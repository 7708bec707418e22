"""A Hub on the loopback interface: as much of the Hugging Face Hub as publishing, loading and caching a model need.

In memory, without passwords. It answers the calls that huggingface_hub makes, with the headers it reads: repositories
and branches, pre-upload, large files (LFS, basic transfer), commits, file lists, files. What is published to it is a
model; the names of data sets and Spaces begin with `datasets/` and `spaces/`, and tests `put` them here.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

FRONT_MATTER = re.compile(r"^---\n(.*?)\n---", re.DOTALL)


@dataclass
class Repository:
    """One repository: its branches, and the files of every commit as `{path: SHA-256 of the content}`."""

    name: str
    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, str], message: str) -> str:
        """Put a commit on top of a branch; its hash."""
        content = json.dumps([files, message, len(self.commits)]).encode()
        commit = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.commits[commit], self.branches[branch] = files, commit
        self.messages.append(message)
        return commit

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch or a commit's hash names."""
        return self.branches.get(revision, revision if revision in self.commits else None)


class LoopbackHub:
    """The state of the server, and what it was asked: `requests` has `(method, path)` of every call."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        self.url = ""

    def store(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def put(self, name: str, files: Mapping[str, bytes]) -> None:
        """Make a public repository of these files."""
        repository = self.repositories[name] = Repository(name, private=False)
        repository.commit("main", {path: self.store(content) for path, content in files.items()}, "all files")

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a repository and their content."""
        repository = self.repositories[name]
        commit = repository.resolve(revision)
        assert commit is not None
        return {path: self.blobs[digest] for path, digest in repository.commits[commit].items()}

    def environment(self, cache: str) -> dict[str, str]:
        """What a process must have in its environment to take this server for the Hub."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": cache, "HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_XET": "1"}


@contextmanager
def running_hub() -> Iterator[LoopbackHub]:
    """A running server, stopped at the end."""
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class NotFound(Exception):
    """A 404, with the code by which the client tells what is missing."""

    def __init__(self, code: str, commit: str | None = None):
        super().__init__(code)
        self.headers = {"X-Error-Code": code, "X-Error-Message": code} | ({"X-Repo-Commit": commit} if commit else {})


class HubHandler(BaseHTTPRequestHandler):
    """One request: the routes below, tried in order."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """No log: the tests read `hub.requests`."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        body = self._body()
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
            for method, pattern, route in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in method.split("|"):
                    try:
                        given = {name: unquote(value) for name, value in match.groupdict().items() if value}
                        route(self, body, **given)
                    except NotFound as missing:
                        self._send(404, b"{}", missing.headers)
                    return
        self._send(404, b'{"error": "no such route"}')

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().strip(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _repository(self, name: str) -> Repository:
        if name not in self.hub.repositories:
            raise NotFound("RepoNotFound")
        return self.hub.repositories[name]

    def _commit(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise NotFound("RevisionNotFound")
        return commit

    def create_repository(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{name}", "name": name}
        if name in self.hub.repositories:
            return self._json({**url, "error": "You already created this model repo"}, 409)
        repository = self.hub.repositories[name] = Repository(name, asked.get("visibility") == "private")
        repository.commit("main", {".gitattributes": self.hub.store(b"*.safetensors filter=lfs\n")}, "initial commit")
        self._json(url)

    def create_branch(self, body: bytes, repo: str, branch: str) -> None:
        repository = self._repository(repo)
        if branch in repository.branches:
            return self._json({"error": "Reference already exists"}, 409)
        repository.branches[branch] = repository.branches["main"]
        self._json({})

    def validate_card(self, body: bytes) -> None:
        match = FRONT_MATTER.match(json.loads(body)["content"])
        try:
            metadata = yaml.safe_load(match.group(1)) if match else {}
            errors = [] if isinstance(metadata, dict) else [{"message": "the metadata must be a mapping"}]
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def choose_upload_modes(self, body: bytes, repo: str, revision: str) -> None:
        self._commit(self._repository(repo), revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".onnx")) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def offer_large_files(self, body: bytes, repo: str) -> None:
        objects: list[dict[str, Any]] = []
        for asked in json.loads(body)["objects"]:
            href = f"{self.hub.url}/lfs/{asked['oid']}"
            new = {} if asked["oid"] in self.hub.blobs else {"actions": {"upload": {"href": href}}}
            objects.append({**asked, **new})
        self._json({"transfer": "basic", "objects": objects})

    def take_large_file(self, body: bytes, oid: str) -> None:
        assert self.hub.store(body) == oid
        self._send(200, b"")

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        repository = self._repository(repo)
        files, message = dict(repository.commits[self._commit(repository, revision)]), ""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = self.hub.store(base64.b64decode(value["content"]))
            elif entry["key"] == "lfsFile":
                files[value["path"]] = value["oid"]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(revision, files, message)
        self._json({"commitOid": commit, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}"})

    def describe(self, body: bytes, repo: str, revision: str = "main") -> None:
        repository = self._repository(repo)
        commit = self._commit(repository, revision)
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        about = {"id": repo, "sha": commit, "private": repository.private, "siblings": siblings, "tags": []}
        if "README.md" in repository.commits[commit]:
            match = FRONT_MATTER.match(self.hub.files(repo, commit)["README.md"].decode())
            about["pipeline_tag"] = yaml.safe_load(match.group(1)).get("pipeline_tag") if match else None
        self._json(about)

    def list_files(self, body: bytes, repo: str, revision: str, path: str = "") -> None:
        repository = self._repository(repo)
        commit = self._commit(repository, revision)
        start, whole = f"{path}/" if path else "", "recursive=true" in self.path.lower()
        entries = {}
        for name, digest in repository.commits[commit].items():
            folder, slash, _ = name.removeprefix(start).partition("/")
            if not name.startswith(start):
                continue
            if slash and not whole:
                entries[start + folder] = {"type": "directory", "oid": digest[:40], "size": 0}
            else:
                entries[name] = {"type": "file", "oid": digest[:40], "size": len(self.hub.blobs[digest])}
        if not entries:
            raise NotFound("EntryNotFound", commit)
        self._json([{"path": name, **entry} for name, entry in entries.items()])

    def send_file(self, body: bytes, repo: str, revision: str, path: str) -> None:
        repository = self._repository(repo)
        commit = self._commit(repository, revision)
        digest = repository.commits[commit].get(path)
        if digest is None:
            raise NotFound("EntryNotFound", commit)
        self._send(200, self.hub.blobs[digest], {"ETag": f'"{digest}"', "X-Repo-Commit": commit})


REPO = r"(?P<repo>(?:(?:datasets|spaces)/)?[\w.-]+/[\w.-]+)"
API = rf"/api/(?:models/)?{REPO}"  # but for models, the kind is a part of the name
ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("POST", "/api/repos/create", HubHandler.create_repository),
    ("POST", "/api/validate-yaml", HubHandler.validate_card),
    ("POST", rf"{API}/branch/(?P<branch>[^/]+)", HubHandler.create_branch),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", HubHandler.choose_upload_modes),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", HubHandler.offer_large_files),
    ("PUT", r"/lfs/(?P<oid>\w+)", HubHandler.take_large_file),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", HubHandler.commit),
    ("GET", rf"{API}", HubHandler.describe),
    ("GET", rf"{API}/revision/(?P<revision>[^/]+)", HubHandler.describe),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", HubHandler.list_files),
    ("GET|HEAD", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", HubHandler.send_file),
)
