"""Files from addresses: kept, resumed where a transfer broke, and refused in one line where they
are wrong."""

import http.server
import io
import re
import threading
import types
import zipfile

import pytest

from ferlab.data.dataset import Dataset
from ferlab.data.readers import fetch, sources
from ferlab.files import UserError, read_json
from tests.builders import images, tiny
from tests.forms import CSV, DATA, equal, stage
from tests.repository import wait_for

pytestmark = pytest.mark.usefixtures("lab", "few_official")


@pytest.fixture
def server(monkeypatch):
    """A server that answers each request with the next of `answers` (the last one for ever):
    functions of a handler."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            site.paths.append(self.path)
            site.ranges.append((self.headers["Range"], self.headers["If-Range"]))
            (site.answers.pop(0) if len(site.answers) > 1 else site.answers[0])(self)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(fetch, "PIECE", 500)
    monkeypatch.setattr(fetch, "time", types.SimpleNamespace(sleep=lambda seconds: None))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads, listening.block_on_close = True, False
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        site = types.SimpleNamespace(
            url=f"http://127.0.0.1:{listening.server_port}",
            paths=[],
            answers=[],
            ranges=[],
            stop=threading.Event(),
        )
        yield site
        site.stop.set()
        listening.shutdown()


def send(content, code=200, length=None, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def zip_bytes(data=DATA, files=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (files or images(data)).items():
            archive.writestr(name, content)
    return file.getvalue()


ZIP = zip_bytes()
CSV_ZIP = zip_bytes(files={"fer2013.csv": CSV})
BROKEN = send(ZIP[:5000], length=len(ZIP))
FIX = "; download it by hand and set FER2013=<file>"


def test_fer2013_comes_from_kaggle_once_and_is_kept_under_the_main_checkout(
    server, small_fer2013, monkeypatch, lab, capsys
):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [send(b"", 302, Location="/storage/archive.zip?signed=1"), send(CSV_ZIP)]
    for _ in range(2):
        stage("fer2013", monkeypatch)
    assert server.paths == [
        "/api/v1/datasets/download/deadskull7/fer2013",
        "/storage/archive.zip?signed=1",
    ]
    saved = Dataset.load(lab / "data/raw")
    assert equal(saved, DATA) and saved.name == "fer2013"
    assert len(list((lab / ".ferlab/downloads").iterdir())) == 1
    assert read_json(lab / "data/source.json")["url"].endswith("/deadskull7/fer2013")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("downloading http://127.0.0.1") and lines[:3] == lines[3:]
    counts = "35 images (train 21, public 7, private 7)"
    assert lines[0] == f"fer2013: {counts}, digest {DATA.digest[:12]}"


def test_a_broken_transfer_is_repeated(server, small_fer2013, monkeypatch):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [BROKEN, send(b"", 503), send(ZIP)]
    assert equal(sources.read("fer2013")[0], DATA) and len(server.paths) == 3


@pytest.mark.parametrize(
    "answer, message, requests",
    [
        (BROKEN, "the transfer broke off", 3),
        (send(b"", 404), "the server answers 404 Not Found", 2),
        (send(b"", 403), "the server answers 403 Forbidden", 2),
        (send(b"", 500), "the server answers 500 Internal Server Error", 6),
        (send(b"<!DOCTYPE html><title>Sign in</title>"), "is a web page, not data", 2),
        (send(ZIP[:5000]), "truncated or damaged zip", 2),
        (send(zip_bytes(tiny(train=2))), "not FER2013: train/angry has 2 images, FER2013 3", 2),
        (send(b"", 302, Location="http://example.invalid/x"), "invalid/x: only https", 2),
        (send(b"", length=5 << 30), "larger than 4 GiB", 2),
        (None, "the server is too slow", 3),
    ],
)
def test_a_failed_download_says_why_and_what_to_do_and_keeps_nothing(
    answer, message, requests, server, small_fer2013, monkeypatch, lab
):
    def silent(handler):
        send(ZIP[:3000], length=len(ZIP))(handler)
        server.stop.wait(5)

    monkeypatch.setattr(fetch, "TIMEOUT", (1, 0.2))
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [answer or silent]
    with pytest.raises(UserError) as error:
        stage("fer2013", monkeypatch)
    text = str(error.value)
    assert message in text and text.endswith(FIX) and "\n" not in text
    assert len(server.paths) == requests
    assert [path for path in lab.rglob("*") if path.is_file()] == []


def offers(content, tag='"1"', cut=None, **headers):
    """A file with ranges as RFC 9110 has them; each answer breaks off after `cut` bytes."""

    def answer(handler):
        wanted = handler.headers["Range"] if handler.headers["If-Range"] == tag else None
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if wanted and start >= len(content):
            return send(b"", 416)(handler)
        more = {"ETag": tag} | headers
        if wanted:
            more["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return send(
            content[start : start + cut if cut else None],
            206 if wanted else 200,
            len(content) - start,
            **more,
        )(handler)

    return answer


def kept(lab):
    return sorted(path.name.partition(".")[2] for path in (lab / ".ferlab/downloads").iterdir())


def test_a_broken_transfer_is_resumed_where_it_stopped(server, small_fer2013, monkeypatch, lab):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [
        offers(ZIP, cut=3000),
        send(b"", 302, Location="/storage"),
        offers(ZIP, cut=2000),
        offers(ZIP),
    ]
    assert equal(sources.read("fer2013")[0], DATA)
    assert server.ranges == [(None, None), *[("bytes=3000-", '"1"')] * 2, ("bytes=5000-", '"1"')]
    assert kept(lab) == [""]


def test_a_later_process_resumes_it_too(server, lab):
    server.answers = [offers(ZIP, cut=1000)]
    for expected in (3000, 6000):
        with pytest.raises(UserError, match="the transfer broke off"):
            sources.read(f"{server.url}/a.zip")
        assert kept(lab) == ["part", "part.json"]
        (part,) = (lab / ".ferlab/downloads").glob("*.part")
        assert part.read_bytes() == ZIP[:expected]
    server.answers = [offers(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[-1] == ("bytes=6000-", '"1"') and kept(lab) == [""]


def test_a_rest_that_ends_early_is_not_the_rest(server, lab):
    headers = {"Content-Range": f"bytes 3000-{len(ZIP) - 1}/{len(ZIP)}", "ETag": '"1"'}
    server.answers = [offers(ZIP, cut=3000), send(ZIP[3000:-500], 206, **headers), offers(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[2] == (f"bytes={len(ZIP) - 500}-", '"1"')


DATED = {"Last-Modified": "Wed, 25 Nov 2026 10:00:00 GMT"}


def span_of(first, last, total, tag='"1"'):
    headers = {"Content-Range": f"bytes {first}-{last}/{total}", "ETag": tag}
    return send(ZIP[first : last + 1], 206, **headers)


@pytest.mark.parametrize(
    "second",
    [
        offers(ZIP, '"2"'),
        send(ZIP),
        send(b"", 416),
        span_of(3000, len(ZIP) - 1, len(ZIP), '"2"'),
        span_of(2999, len(ZIP) - 1, len(ZIP)),
        span_of(3000, len(ZIP) - 2, len(ZIP)),
        span_of(3000, 3999, "*"),
        send(ZIP[3000:], 206),
    ],
    ids=["changed", "whole", "no range", "another", "overlap", "early end", "no total", "no span"],
)
def test_what_is_not_the_rest_of_the_same_file_starts_over(second, server, lab):
    server.answers = [offers(bytes(3000) + ZIP[3000:], cut=3000), second, offers(ZIP, '"3"')]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[1] == ("bytes=3000-", '"1"') and kept(lab) == [""]
    assert len(server.paths) == 2 or server.ranges[2] == (None, None)


@pytest.mark.parametrize(
    "tag, headers, asks",
    [
        ("", {}, None),
        ('W/"1"', {}, None),
        ("", DATED, DATED["Last-Modified"]),
        ('W/"1"', DATED, DATED["Last-Modified"]),
    ],
)
def test_only_a_version_that_is_known_again_is_resumed(tag, headers, asks, server):
    server.answers = [offers(ZIP, tag, 3000, **headers), send(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA)
    assert server.ranges[1] == (asks and "bytes=3000-", asks)


@pytest.mark.parametrize(
    "damage",
    [
        lambda part, note: note.unlink(),
        lambda part, note: note.write_text("[]"),
        lambda part, note: note.write_text("x"),
        lambda part, note: part.write_bytes(b""),
        lambda part, note: note.write_text('{"version": "a\\nb"}'),
        lambda part, note: part.unlink(),
    ],
)
def test_a_damaged_rest_is_not_resumed(damage, server, lab):
    server.answers = [offers(ZIP, cut=1000)]
    with pytest.raises(UserError, match="the transfer broke off"):
        sources.read(f"{server.url}/a.zip")
    (note,) = (lab / ".ferlab/downloads").glob("*.json")
    damage(note.with_suffix(""), note)
    server.answers = [offers(ZIP)]
    assert equal(sources.read(f"{server.url}/a.zip")[0], DATA) and server.ranges[-1] == (None, None)


def test_more_than_was_promised_is_not_taken(server, lab, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 5000)

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(ZIP[:6000])

    def in_pieces(handler):
        handler.send_response(200)
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(ZIP[:6000])

    for answer in (endless, in_pieces):
        server.answers = [answer]
        with pytest.raises(UserError, match="larger than 0 GiB"):
            sources.read(f"{server.url}/a.zip")
        assert kept(lab) == []


def test_two_downloads_of_one_file_share_it(server, lab):
    def slow(handler):
        server.stop.wait(0.3)
        offers(ZIP)(handler)

    def load():
        paths.append(fetch.download(f"{server.url}/a.zip"))

    server.answers, paths = [slow], []
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.paths) == 1 and paths[0] == paths[1] and paths[0].read_bytes() == ZIP


@pytest.mark.parametrize(
    "first, reason",
    [
        (send(b"", 404), "the server answers 404 Not Found"),
        (send(b"<html>"), "is a web page"),
        (send(zip_bytes(tiny(train=2))), "not FER2013: train/angry"),
    ],
)
def test_the_other_copy_is_fetched_where_the_first_is_none(
    first, reason, server, small_fer2013, monkeypatch, lab, capsys
):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [first, send(ZIP)]
    data, source = sources.read("fer2013")
    assert equal(data, DATA) and source["url"] == server.url + sources.KAGGLE[1]
    assert [path.split("/")[5] for path in server.paths] == ["deadskull7", "msambare"]
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.startswith("downloading ")]
    assert len(lines) == 1 and reason in lines[0] and lines[0].endswith(f"; trying {source['url']}")
    assert kept(lab) == [""]


def test_where_both_copies_fail_both_reasons_are_given(server, small_fer2013, monkeypatch):
    monkeypatch.setenv("FERLAB_KAGGLE", server.url)
    server.answers = [send(b"", 404), send(b"<html>")]
    with pytest.raises(UserError) as error:
        sources.read("fer2013")
    first, second = (server.url + path for path in sources.KAGGLE)
    assert str(error.value) == (
        f"{first}: the server answers 404 Not Found; {second}: is a web page, not data{FIX}"
    )


def test_no_connection_is_said(monkeypatch, server, small_fer2013):
    monkeypatch.setenv("FERLAB_KAGGLE", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=f"no connection{FIX}"):
        sources.read("fer2013")


def test_an_address_is_read_like_a_path_and_kept_by_address(server):
    server.answers = [send(ZIP), send(zip_bytes(tiny(seed=1)))]
    first, source = sources.read(f"{server.url}/a.zip")
    second, _ = sources.read(f"{server.url}/b.zip")
    assert first.name == f"custom-{DATA.digest[:8]}" and source["url"].endswith("/a.zip")
    assert not equal(first, second)
    assert equal(sources.read(f"{server.url}/a.zip")[0], first) and len(server.paths) == 2


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/x.zip",
        "ftp://127.0.0.1/x.zip",
        "file:///etc/passwd",
        "http://127.0.0.1.example.org/x",
        "https://[x/y",
    ],
)
def test_only_https_addresses_are_read(address):
    with pytest.raises(UserError, match="only https addresses|Invalid IPv6|IPv6"):
        sources.read(address)


def test_who_waits_for_another_download_says_so(tmp_path, capsys):
    with fetch._alone_in(tmp_path):
        waiting = threading.Thread(target=lambda: fetch._alone_in(tmp_path).__enter__())
        waiting.start()
        wait_for(lambda: "waiting: another process downloads into" in capsys.readouterr().out)
    waiting.join()
