"""Gets published images, and notes what it got, so that later stages see the same.

`fetch` makes a folder with manifest.json, written last: each file's place, origin, size and checksum. The user's own files
are read where they are and never copied; the folder holds only downloads and the digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.atomic import read_if_whole, read_json, write_json
from pipeline.config import DataConfig
from pipeline.data.archives import Folder
from pipeline.data.download import PATIENCE, Patience, digest, digests
from pipeline.data.listing import visible
from pipeline.data.places import OFFICIAL, Official, Search
from pipeline.errors import MissingError, PipelineError, hint

MANIFEST = "manifest.json"


class Fetched(NamedTuple):
    layout: str  # as in places.Located
    paths: list[Path]


def fetch(
    data: DataConfig,
    out: Path,
    root: Path,
    official: Mapping[str, Official] = OFFICIAL,
    patience: Patience = PATIENCE,
) -> dict[str, Any]:
    """Locates or downloads a data set. Returns the manifest, which is also written to `out`.

    An interrupted download resumes. Checksums of the user's files are computed once: a repetition takes them from the
    manifest while path, size and time of change are the same.

    Args:
        out: data/raw/<name>.
        root: of the repository, where relative paths of the configuration start.
        official: MD5s of the official files, and addresses of those that are downloaded.
        patience: as in `download`.
    Raises:
        MissingError: no place has the images; the sentence lists the places and the remedy.
        PipelineError: data.path names a file that cannot be a data set, or lies in `out`; a file of ImageNet has another
            MD5 than the published one.
    """
    out.mkdir(parents=True, exist_ok=True)
    before = read_if_whole(out / MANIFEST).get("files", [])
    layout, places = Search(data, out, root, official, patience).locate()
    for path, origin in places:
        if origin == str(path) and out.resolve() in (path, *path.parents):
            raise PipelineError(
                f"{path} lies in {out}, which DVC may empty; move your files elsewhere and give their new path"
            )
    md5s = {file: md5 for file, md5, _ in official.values()} if layout == "ilsvrc-tars" else {}
    files = [_entry(path, origin, out, before, data, md5s.get(path.name, "")) for path, origin in places]
    manifest = {"name": data.name, "source": data.source, "path": data.path, "layout": layout, "files": files}
    write_json(out / MANIFEST, manifest)
    now = {entry["path"] for entry in files}
    for path in [out / entry["path"] for entry in before if entry["path"] not in now]:
        if path.parent == out:
            path.unlink(missing_ok=True)
    for facts in out.glob("*.part.json"):  # of places that broke off before another one had the file
        facts.with_suffix("").unlink(missing_ok=True)
        facts.unlink()
    return manifest


def fetched(data: DataConfig, raw: Path) -> Fetched:
    """The files that `fetch` recorded in `raw`, checked to be present and unchanged.

    Raises:
        MissingError: nothing was fetched, or a file is missing.
        PipelineError: another data set was fetched, or the same one by another data.path; a file has changed since; or
            CIFAR's archive or ImageNet's devkit has another MD5 than the published one.
    """
    if not (raw / MANIFEST).is_file():
        raise MissingError(f"{raw} holds no {MANIFEST}, so nothing whole was fetched; run {hint('fetch')}")
    manifest = read_json(raw / MANIFEST, f"run {hint('fetch')}")
    if manifest["source"] != data.source:
        raise PipelineError(
            f"{raw} holds {manifest['source']}, but data.source={data.source}; run {hint('fetch')}, or give this "
            f"data set another name (override: data.name={data.name}_{data.source}). For DVC, the name is that of a file: "
            f"conf/data/{data.name}_{data.source}.yaml"
        )
    if (given := manifest["path"]) != data.path:
        raise PipelineError(
            f"{raw} holds what data.path={given or repr('')} named, but data.path={data.path or repr('')}; run {hint('fetch')}, or "
            f"name what is there (override: data.path={given or repr('')})"
        )
    for entry in manifest["files"]:
        path = raw / entry["path"]
        if not path.exists():
            raise MissingError(f"{path} was there when the data were fetched and is gone; run {hint('fetch')}")
        same_size = path.is_dir() or path.stat().st_size == entry["bytes"]
        if not same_size or _entry(path, entry["from"], raw, [entry], data)["sha256"] != entry["sha256"]:
            raise PipelineError(f"{path} has changed since the data were fetched; run {hint('fetch')}")
    layout, paths = manifest["layout"], [raw / entry["path"] for entry in manifest["files"]]
    # pickle and SciPy read these, so only the published bytes may reach them; `dvc pull` brings a manifest of its own.
    fixed = {"cifar-pickles": (data.source, paths), "ilsvrc-tars": ("imagenet-devkit", paths[2:])}
    key, compared = fixed.get(layout, ("", []))
    for path in compared:
        if (actual := digest(path, "md5")) != OFFICIAL[key].md5:
            raise PipelineError(
                f"the MD5 of {path} is {actual} instead of the published {OFFICIAL[key].md5}; download it again and run {hint('fetch')}"
            )
    return Fetched(layout, paths)


def _entry(
    path: Path, origin: str, out: Path, before: list[dict[str, Any]], data: DataConfig, md5: str = ""
) -> dict[str, Any]:
    """The manifest's entry for a file or folder; its checksum comes from `before` if nothing changed.

    Args:
        md5: as published, if it has to be compared yet.
    """
    if path.is_dir():
        return {"path": str(path), "from": origin, **_listing(path, data)}
    status = path.stat()
    facts: dict[str, Any] = {"path": str(path), "from": origin, "bytes": status.st_size}
    if md5:
        facts["md5"] = md5
    if path.parent == out:
        facts["path"] = path.name
    else:
        facts["mtime_ns"] = status.st_mtime_ns
        for old in before:
            if facts.items() <= old.items():
                return {**facts, "sha256": old["sha256"]}
    sha256, *actual = digests(path, ("sha256", "md5") if md5 else ("sha256",))
    if actual not in ([], [md5]):
        raise PipelineError(f"the MD5 of {path} is {actual[0]} instead of the published {md5}; download it again")
    return {**facts, "sha256": sha256}


def _listing(folder: Path, data: DataConfig) -> dict[str, Any]:
    """Counts of a folder's files, and a hash of its names and sizes, not of their contents."""
    state, files, total = hashlib.sha256(), 0, 0
    for entry in Folder(folder, data.limits, visible(data)).entries():
        state.update(f"{entry.name}\0{entry.size}\n".encode())
        files, total = files + 1, total + entry.size
    return {"files": files, "bytes": total, "sha256": state.hexdigest()}
