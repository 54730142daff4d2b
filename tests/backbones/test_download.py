import hashlib
import io
import os
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save

from reid.backbones._download import fetch_state, weights_folder
from reid.errors import ConfigError, StorageError, WeightsError
from reid.progress import Silent

STATE = {"weight": torch.rand(700, 1000), "same": torch.zeros(3)}
STATE["tied"] = STATE["weight"][:2]  # shares memory, which safetensors refuses as it stands


def pth_bytes(content=None):
    file = io.BytesIO()
    torch.save(STATE if content is None else content, file)
    return file.getvalue()


BODY = pth_bytes()
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server:
    """Answers every GET with ``body``; counts requests."""

    def __init__(self):
        self.body, self.status, self.announced, self.num_requests = BODY, 200, len(BODY), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.num_requests += 1
                self.send_response(outer.status)
                if outer.announced is not None:
                    self.send_header("Content-Length", str(outer.announced))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/models/net-{SHA256[:8]}.pth"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "weights"


class Recorder(Silent):
    """Progress that remembers its bars."""

    def __init__(self):
        self.bars = []
        self.num_advanced = 0

    @contextmanager
    def bar(self, label, total, unit):
        self.bars.append((label, total, unit))
        yield self

    def advance(self, count=1, **facts):
        self.num_advanced += count


def assert_is_state(found):
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_downloads_once_and_keeps_safetensors(server, folder):
    progress = Recorder()
    assert_is_state(fetch_state(server.url, SHA256[:8], progress))
    stem = f"net-{SHA256[:8]}"
    assert sorted(path.name for path in folder.iterdir()) == [f"{stem}.pth", f"{stem}.safetensors"]
    assert_is_state(load_file(folder / f"{stem}.safetensors"))
    num_mib = -(-len(BODY) // 2**20)
    assert progress.bars == [(f"download {stem}.pth", num_mib, "MiB")]
    assert progress.num_advanced == num_mib > 1
    (folder / f"{stem}.pth").unlink()
    assert_is_state(fetch_state(server.url, SHA256, progress))
    assert server.num_requests == 1


def test_file_put_there_by_hand(server, folder):
    folder.mkdir()
    (folder / f"net-{SHA256[:8]}.pth").write_bytes(BODY)
    assert_is_state(fetch_state(server.url, SHA256[:8], Silent()))
    assert server.num_requests == 0


def test_safetensors_url(server, folder):
    server.body = save({"a": torch.ones(2)})
    server.announced = None
    progress = Recorder()
    sha256 = hashlib.sha256(server.body).hexdigest()
    found = fetch_state(server.url.replace(".pth", ".safetensors"), sha256, progress)
    assert torch.equal(found["a"], torch.ones(2))
    assert len(list(folder.iterdir())) == 1
    assert progress.bars[0][1] is None


def test_wrong_file_in_the_folder(server, folder):
    folder.mkdir()
    path = folder / f"net-{SHA256[:8]}.pth"
    path.write_bytes(BODY[:-1])
    with pytest.raises(WeightsError, match=f"{path.name}: wanted SHA-256 {SHA256[:8]}.*Delete it"):
        fetch_state(server.url, SHA256[:8], Silent())
    assert path.read_bytes() == BODY[:-1]


def test_kept_file_of_another_source_is_not_used(server, folder):
    fetch_state(server.url, SHA256, Silent())
    server.body = pth_bytes({"weight": torch.ones(1)})
    server.announced = len(server.body)
    other = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(WeightsError, match=f"wanted SHA-256 {other}.*found {SHA256}"):
        fetch_state(server.url, other, Silent())


def test_damaged_kept_file(server, folder):
    fetch_state(server.url, SHA256, Silent())
    kept = folder / f"net-{SHA256[:8]}.safetensors"
    kept.write_bytes(kept.read_bytes()[:20])
    with pytest.raises(WeightsError, match="Delete it; it is made anew"):
        fetch_state(server.url, SHA256, Silent())
    kept.unlink()
    assert_is_state(fetch_state(server.url, SHA256, Silent()))


def assert_nothing_kept(folder):
    assert list(folder.iterdir()) == []


def test_wrong_hash(server, folder):
    server.body = BODY[:-1] + b"x"
    with pytest.raises(WeightsError, match=f"wanted SHA-256 {SHA256[:8]}.*Nothing was kept"):
        fetch_state(server.url, SHA256[:8], Silent())
    assert_nothing_kept(folder)


@pytest.mark.parametrize("num_bytes", [0, 1000, len(BODY) - 1])
def test_truncated(server, folder, num_bytes):
    server.body = BODY[:num_bytes]
    with pytest.raises(WeightsError, match=f"cannot be downloaded.*{num_bytes}"):
        fetch_state(server.url, SHA256[:8], Silent())
    assert_nothing_kept(folder)


def test_truncated_without_a_length_is_a_wrong_hash(server, folder):
    server.announced, server.body = None, BODY[:1000]
    with pytest.raises(WeightsError, match="wanted SHA-256"):
        fetch_state(server.url, SHA256[:8], Silent())
    assert_nothing_kept(folder)


@pytest.mark.parametrize("status", [404, 500])
def test_server_error(server, folder, status):
    server.status = status
    with pytest.raises(WeightsError, match=f"HTTP Error {status}"):
        fetch_state(server.url, SHA256[:8], Silent())
    assert_nothing_kept(folder)


def test_offline_says_which_file_to_put_where(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/net-00000000.pth"
    with pytest.raises(WeightsError) as caught:
        fetch_state(url, "00000000", Silent())
    for words in (url, str(folder / "net-00000000.pth"), "REID_WEIGHTS", "refused"):
        assert words in str(caught.value)


def test_not_a_state_dict(server, folder):
    server.body = pth_bytes({"state_dict": {"a": torch.ones(1)}})
    server.announced = len(server.body)
    with pytest.raises(WeightsError, match="wanted a state dict"):
        fetch_state(server.url, hashlib.sha256(server.body).hexdigest(), Silent())
    assert [path.suffix for path in folder.iterdir()] == [".pth"]


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://127.0.0.1/net.zip"])
def test_url_without_a_file_name(url):
    with pytest.raises(ConfigError, match="wanted a URL ending in"):
        fetch_state(url, SHA256, Silent())


def test_impossible_url():
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch_state("http://127.0.0.1:port/net.pth", SHA256, Silent())


def test_folder_is_a_file(server, folder):
    folder.write_text("in the way")
    with pytest.raises(StorageError, match="REID_WEIGHTS"):
        fetch_state(server.url, SHA256, Silent())
    assert folder.read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(server, folder):
    folder.mkdir(mode=0o500)
    with pytest.raises(StorageError, match=r"Permission denied.*REID_WEIGHTS"):
        fetch_state(server.url, SHA256, Silent())


def test_disk_full(server, folder, monkeypatch):
    def refuse(file_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=r"No space left on device.*REID_WEIGHTS"):
        fetch_state(server.url, SHA256, Silent())
    assert_nothing_kept(folder)


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("REID_WEIGHTS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".cache" / "reid" / "weights"
