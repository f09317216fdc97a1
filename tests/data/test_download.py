"""Downloads, from a server on this machine."""

import functools
import hashlib
import http.server
import io
import os
import threading
import zipfile

import pytest

from tfmeta.data import readers
from tfmeta.data.download import download_movielens_1m, download_movielens_100k, download_zip
from tfmeta.errors import DataError


def archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return buffer.getvalue()


SMALL = archive({"ml-1m/": "", "ml-1m/users.dat": "1::F::1::10::48067\n", "ml-1m/README": "made up",
                 "ml-1m/movies.dat": "1::Toy Story (1995)::Comedy\n", "ml-1m/ratings.dat": "1::1::5::978300760\n"})


class Handler(http.server.SimpleHTTPRequestHandler):
    requests: list[str]

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.requests.append(self.path)
        if self.path == "/cut.zip":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"PK")
            return
        super().do_GET()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "small.zip").write_bytes(SMALL)
    (folder / "text.zip").write_text("no archive")
    Handler.requests = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def checksum(data: bytes, algorithm: str = "md5") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_download_can_be_read_and_is_made_once(server, tmp_path, algorithm):
    def fetch():
        return download_movielens_1m(str(tmp_path), url=f"{server}/small.zip", checksum=checksum(SMALL, algorithm),
                                     progress=False)

    path = fetch()
    assert path == os.path.join(str(tmp_path), "ml-1m")
    assert sorted(os.listdir(path)) == ["README", "movies.dat", "ratings.dat", "users.dat"]
    assert readers.read("ml-1m", path).counts["kept"] == 1
    assert fetch() == path and Handler.requests == ["/small.zip"]


@pytest.mark.parametrize("name, expected, text", [
    ("small.zip", "md5:00", "requires md5 00, received"),
    ("small.zip", "crc:00", "md5:DIGITS or sha256:DIGITS"),
    ("absent.zip", "md5:00", "404"),
    ("cut.zip", "md5:00", "cut.zip cannot be downloaded|requires md5"),
    ("text.zip", checksum(b"no archive"), "zip archive"),
])
def test_a_bad_download_leaves_nothing(server, tmp_path, name, expected, text):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(DataError, match=text):
        download_movielens_1m(str(target), url=f"{server}/{name}", checksum=expected, progress=False)
    assert os.listdir(target) == []


def test_an_archive_without_the_files_is_told(server, tmp_path):
    with pytest.raises(DataError, match=r"lacks.*u\.data"):
        download_movielens_100k(str(tmp_path), url=f"{server}/small.zip", checksum=checksum(SMALL), progress=False)


def test_no_network_is_told(tmp_path):
    # Nothing listens on port 9 of this machine.
    with pytest.raises(DataError, match=r"cannot be downloaded.*--source"):
        download_movielens_100k(str(tmp_path), url="http://127.0.0.1:9/x.zip", progress=False)
    with pytest.raises(DataError, match="http or https"):
        download_movielens_100k(str(tmp_path), url="file:///etc/passwd", progress=False)


def test_an_archive_cannot_write_outside(server, tmp_path):
    data = archive({"../../evil.dat": "x", "/a/b.dat": "y"})
    (tmp_path / "published" / "evil.zip").write_bytes(data)
    directory = tmp_path / "deep" / "er" / "data"
    download_zip(f"{server}/evil.zip", str(directory), checksum=checksum(data), required=("b.dat",), progress=False)
    assert sorted(os.listdir(directory)) == ["b.dat", "evil.dat"]
    assert sorted(p.name for p in tmp_path.rglob("*.dat")) == ["b.dat", "evil.dat"]
