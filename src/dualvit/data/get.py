"""`dualvit data get`: a public data set, fetched if asked for, checked, and written so that dualvit reads it."""

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from dualvit.data.public import SOURCES, Archive, Source
from dualvit.errors import InputError, line_of
from dualvit.files import atomic_folder, cannot, read_json, write_json
from dualvit.names import unknown_name

MIRROR = "DUALVIT_MIRROR"  # environment variable: takes the place of https://HOST in every address
CHUNK, TIMEOUT = 1 << 20, 60  # bytes, seconds
Progress = Callable[[int, int], None]


def get(
    name: str, out: Path, mirror: str | None = None, progress: Progress = lambda done, total: None
) -> tuple[Path, int]:
    """Fetch a public data set, unless it is there already.

    The digest of the archive is kept in `OUT.source.json` beside the folder. A later fetch to the same place must give
    the same bytes. The folder appears once it is complete; whatever fails leaves none, and the command can be repeated.

    Args:
        name: A key of `dualvit.data.public.SOURCES`.
        out: The folder; new or empty, or the data set of an earlier call.
        mirror: Takes the place of https://HOST in the address; the environment's DUALVIT_MIRROR if left out.
        progress: Called with bytes fetched, and all bytes.

    Returns:
        `data.yaml`, or the folder of a data set of folders by class; and the number of pictures.

    Raises:
        ValueError: an unknown name, another folder's content in the way, or an archive that is not the expected one.
        OSError: the source cannot be reached, or the disk cannot be written.
    """
    if name not in SOURCES:
        raise InputError(f"{unknown_name('data set', name, SOURCES)}; there are {', '.join(SOURCES)}")
    source, out = SOURCES[name], out.resolve()
    answer = (out / "data.yaml" if source.classes else out), source.pictures
    record = out.with_name(f"{out.name}.source.json")
    known = read_json(record) or {}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if known.get("name") == name and answer[0].exists():
            return answer
        raise InputError(f"{out} is not empty, and holds no {name} that `dualvit data get` wrote; give another --out")
    url = source.url
    if base := mirror or os.environ.get(MIRROR):
        url = base.rstrip("/") + urllib.parse.urlsplit(url).path
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent) as file:
            digest, size = fetch(url, file, progress)
            if known.get("url") == source.url and known.get("sha256") != digest:
                raise InputError(
                    f"the archive at {url} has sha256 {digest}, and {record} says {known.get('sha256')}; "
                    f"delete {record.name} to accept the new archive"
                )
            with atomic_folder(out) as folder:
                convert(file, source, url, folder)
                about = {"name": name, "url": source.url, "sha256": digest, "bytes": size, "licence": source.licence}
                write_json(record, about | {"fetched": datetime.now(UTC).isoformat(timespec="seconds")})
    except OSError as error:
        raise (error if error.filename is None and not error.errno else cannot("write to", out, error)) from None
    return answer


def fetch(url: str, file: IO[bytes], progress: Progress = lambda done, total: None) -> tuple[str, int]:
    """Fetch an address into a file; returns the sha256 of the content, and its bytes.

    Raises:
        OSError: the address cannot be reached, or its content came incomplete; or the file cannot be written.
    """
    summed, done = hashlib.sha256(), 0
    try:
        response = urllib.request.urlopen(url, timeout=TIMEOUT)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise unreachable(url, error) from None
    with response:
        total = int(response.headers.get("Content-Length") or 0)
        while True:
            try:
                chunk = response.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(url, error) from None
            if not chunk:
                break
            file.write(chunk)
            summed.update(chunk)
            done += len(chunk)
            progress(done, total or done)
    if done < total:
        raise unreachable(url, f"the connection ended after {done} of {total} bytes")
    return summed.hexdigest(), done


def unreachable(url: str, error: object) -> OSError:
    """Return what is said if an address gives nothing."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    words = " ".join(str(reason).split()) or type(error).__name__
    return OSError(f"cannot fetch {url}: {words}; check the network, or name a mirror in {MIRROR}")


def convert(file: IO[bytes], source: Source, url: str, folder: Path) -> None:
    """Write the pictures and labels of an archive.

    Raises:
        ValueError: it is damaged, or not the expected one.
    """
    written = set()
    try:
        with zipfile.ZipFile(file) as zipped:
            archive = Archive(zipped)
            for name, split, content, rows in source.examples(archive, source):
                place = folder / (f"images/{split}" if source.classes else split) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                if source.classes:
                    label = folder / f"labels/{split}" / Path(name).with_suffix(".txt")
                    label.parent.mkdir(parents=True, exist_ok=True)
                    label.write_text("".join(f"{row}\n" for row in rows))
                written.add(place)
            if "LICENSE" in archive.infos:
                (folder / "LICENSE").write_bytes(archive.read("LICENSE"))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(
            f"the archive at {url} is damaged or no zip file: {line_of(error, 200)}; fetch it again"
        ) from None
    except ValueError as error:
        raise InputError(f"the archive at {url} is not the expected one: {error}") from None
    if len(written) != source.pictures:
        raise InputError(
            f"the archive at {url} is not the expected one: {len(written)} pictures instead of {source.pictures}"
        )
    if source.classes:
        names = "".join(f"  {index}: {name}\n" for index, name in enumerate(source.classes))
        (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")
