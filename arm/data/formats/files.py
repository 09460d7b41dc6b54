"""The files of a source: fetched one by one when they are read, and looked up by the names that rows give.

A name in a row is untrusted. It is looked up among the files of the source and the members of its tars, never opened: an
absolute path or one with `..` finds nothing and is counted as `bad_path`. An address is never fetched: it is found when a
tar of the source holds that image with its `url` in the JSON beside it, as img2dataset writes them; else `remote_file`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from arm.data.formats.rows import IMAGES, Blob, Unfit
from arm.data.tar import list_members
from arm.errors import UserError
from arm.manifest import Manifest
from arm.outside import fetched, matches, outside_addresses, refuse_links

TAR = ".tar"
FOLDERS = ("", "images", "videos")
"""Where a name is looked up, beside the file that names it."""
MAX_JSON_BYTES = 1 << 20


class Files(Mapping[str, Path]):
    """Name relative to the source's path -> local path, in order; a file is fetched when it is asked for."""

    def __init__(self, path: str, manifest: Manifest | None = None) -> None:
        self.manifest = manifest
        if manifest is None:
            self._places: dict[str, Any] = outside_addresses(path)
            refuse_links(path, self._places.values())
        else:
            root = path.rstrip("/")
            entries = [entry for entry in manifest.files if matches(entry.path, path)]
            if not entries:
                raise UserError(f"{manifest.url} ({manifest.kind}) holds nothing at {path!r}.")
            self._places = {e.path.removeprefix(root).lstrip("/") or Path(root).name: e for e in entries}
        self._members: dict[str, Blob] | None = None
        self._downloads: dict[str, Blob] | None = None

    def __getitem__(self, name: str) -> Path:
        place = self._places[name]
        return self.manifest.local(place) if self.manifest else fetched(place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def blob(self, name: str) -> Blob:
        """A whole file."""
        path = self[name]
        return Blob(path, 0, path.stat().st_size)

    def look_up(self, name: str, file: str) -> Blob:
        """What a row of `file` calls `name`: beside that file, in a folder `images` or `videos` there, or at the source's
        top; Unfit when there is nothing."""
        if "://" in name or name.startswith("data:"):
            if found := self._tar_downloads().get(name):
                return found
            raise Unfit("remote_file")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise Unfit("bad_path")
        beside = PurePosixPath(file).parent
        for candidate in (*(beside / folder / path for folder in FOLDERS), path):
            if str(candidate) in self._places:
                return self.blob(str(candidate))
            if found := self._tar_members().get(str(candidate)):
                return found
        raise Unfit("no_file")

    def _tar_members(self) -> dict[str, Blob]:
        """Where every member of every tar lies; the first of a name counts. Headers are read once, bytes never."""
        if self._members is None:
            self._members = {}
            for path in (self[name] for name in self if name.endswith(TAR)):
                for member, offset, length in list_members(path):
                    self._members.setdefault(str(PurePosixPath(member)), Blob(path, offset, length))
        return self._members

    def _tar_downloads(self) -> dict[str, Blob]:
        """Address -> the image that was downloaded from it; some 250 bytes of memory an image."""
        if self._downloads is None:
            self._downloads = {}
            for path in (self[name] for name in self if name.endswith(TAR)):
                stem, image, url = "", None, None
                for member, offset, length in list_members(path):
                    key, _, extension = member.rpartition(".")
                    if key != stem:
                        stem, image, url = key, None, None
                    if extension == "json":
                        url = _url(Blob(path, offset, length))
                    elif extension in IMAGES:
                        image = Blob(path, offset, length)
                    if url and image:
                        self._downloads.setdefault(url, image)
        return self._downloads


def _url(described: Blob) -> str | None:
    try:
        values = json.loads(described.read(MAX_JSON_BYTES))
    except (ValueError, RecursionError, Unfit):
        return None
    url = values.get("url") if isinstance(values, dict) else None
    return url if isinstance(url, str) else None
