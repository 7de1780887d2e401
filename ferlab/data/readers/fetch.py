"""Files from https addresses, kept in .ferlab/downloads; a broken transfer is resumed."""

import fcntl
import hashlib
import os
import re
import sys
import time
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

from tqdm import tqdm

from ferlab.data.readers.members import MAX_BYTES
from ferlab.files import UserError, read_json, root, write_json
from ferlab.secrets import masked, one_line

TIMEOUT, RETRIES = (15, 60), 2  # seconds to connect and between two pieces; tries after the first
PIECE = 1 << 16  # bytes; a piece that was not complete when a transfer broke off is lost


class Unreachable(UserError):
    """The network is at fault, not what the address offers."""


def download(url):
    """The Path of the local file of an address, downloaded if it is not there yet.

    Where the server names this version of the file (ETag or date), what arrived of a broken
    transfer stays beside it as `.part`, and the version as `.part.json`: the next try, of a later
    process too, asks for the rest of that version alone. Raises UserError, and Unreachable where
    the transfer and not the answer is at fault.
    """
    import requests

    _require_https(url)
    folder, shown = root() / ".ferlab" / "downloads", masked(url)
    path = folder / hashlib.sha256(url.encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        if path.exists():
            return path
        print(f"downloading {shown}", flush=True)
        for tries in range(RETRIES + 1):
            time.sleep(tries)
            try:
                _transfer(url, path)
                return path
            except UserError as error:
                raise type(error)(f"{shown}: {error}") from None
            except requests.HTTPError as error:
                failure = UserError(f"{shown}: {_status_of(error.response)}")
            except requests.RequestException as error:
                failure = Unreachable(f"{shown}: {_what_broke(error)}")
    raise failure from None


@contextmanager
def _alone_in(folder):
    """Wait until no other process downloads into this folder: two would write into one `.part`."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting: another process downloads into {folder}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _status_of(response):
    return f"the server answers {response.status_code} {response.reason}"


def _what_broke(error):
    """A failed transfer in a few words."""
    import requests

    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"the server is too slow (nothing came for {TIMEOUT[1]} s)"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    return "no connection" if isinstance(error, requests.ConnectionError) else one_line(error)


def _transfer(url, path):
    """One try: the whole file is at `path`, or an error is raised and `.part` is kept if of use."""
    import requests

    part, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    have, version = _resumable(part, note)
    headers = {"Accept-Encoding": "identity"}  # packed, the bytes would not be those counted here
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=TIMEOUT, hooks={"response": _check_response}
        ) as answer:
            code = answer.status_code
            if code == 416 or code == 206 and not _is_rest(answer, have, version):
                _forget(part, note)
                raise requests.exceptions.ChunkedEncodingError("not the part that was asked for")
            answer.raise_for_status()
            if code != 206:
                have = 0
                _forget(part, note)
                if version := _version_of(answer):
                    part.touch()  # the note is true of the part from the first byte on
                    write_json(note, {"version": version})
            _receive(answer, part, have, _whole_size(answer))
    except BaseException as error:
        if not note.exists() or isinstance(error, UserError):  # the next try would get no further
            _forget(part, note)
        raise
    os.replace(part, path)
    note.unlink(missing_ok=True)


def _receive(answer, part, have, total):
    """Append the answer's bytes to `part`, which has `have`; `total` in all, None where unknown.

    Raises ChunkedEncodingError where it is another number.
    """
    import requests

    with (
        open(part, "ab") as file,
        tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not sys.stderr.isatty(),
        ) as progress,
    ):
        for piece in answer.iter_content(PIECE):
            have += len(piece)
            if have > min(MAX_BYTES, total or MAX_BYTES):
                break
            file.write(piece)
            progress.update(len(piece))
    if have > MAX_BYTES:
        raise UserError(f"larger than {MAX_BYTES >> 30} GiB")
    if total is not None and have != total:
        raise requests.exceptions.ChunkedEncodingError(f"{have} of {total} bytes")


def _resumable(part, note):
    """(bytes, version) of an earlier try that may be resumed; (0, "") where there is none."""
    try:
        version, have = read_json(note)["version"], part.stat().st_size
        if have and isinstance(version, str) and version.isascii() and version.isprintable():
            return have, version
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


def _forget(part, note):
    note.unlink(missing_ok=True)  # first: a part without a note is never resumed
    part.unlink(missing_ok=True)


def _version_of(answer):
    """The strong ETag, or else the date, by which the server knows this version again, or ""."""
    if _is_packed(answer):
        return ""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _is_packed(answer):
    """Whether the server compressed what it sends."""
    return answer.headers.get("Content-Encoding", "identity") != "identity"


def _is_rest(answer, have, version):
    """True where a 206 is the rest, from byte `have` on, of the version that was asked for."""
    first, last, total = _span(answer)
    sent = _version_of(answer)
    if have == 0 or first != have or last != total - 1 or _is_packed(answer):
        return False
    # a 206 may leave out the date where it sends the tag, and the other way round
    return sent == version or not sent or sent.startswith('"') != version.startswith('"')


def _span(answer):
    """(first byte, last byte, size of the whole) of a 206, (-1, -1, -1) of another answer."""
    header = answer.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", header, re.ASCII)
    return tuple(map(int, match.groups())) if match else (-1, -1, -1)


def _whole_size(answer):
    """Bytes of the whole file, None where the server does not say."""
    if answer.status_code == 206:
        return _span(answer)[2]
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not _is_packed(answer) else None


def _require_https(url):
    """Raise UserError for any other address; http is read from this machine alone (tests)."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{masked(url)}: {error}") from None
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not local:
        raise UserError(f"{masked(url)}: only https addresses are read")


def _check_response(response, **_):
    """Called for every answer, redirects too, before more is fetched; its UserErrors are final."""
    if response.is_redirect:
        _require_https(urljoin(response.url, response.headers["location"]))
    elif response.status_code in (401, 403, 404, 410):
        raise UserError(_status_of(response))
    elif (_whole_size(response) or 0) > MAX_BYTES:
        raise UserError(f"larger than {MAX_BYTES >> 30} GiB")
