"""Where published images come from: scikit-learn, a mirror, the user's files, or the official address."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from pipeline.atomic import replacing
from pipeline.config import ANNOTATED, DataConfig
from pipeline.data.archives import SUFFIXES
from pipeline.data.download import Patience, UnavailableError, digest, download
from pipeline.data.listing import visible
from pipeline.errors import MissingError, PipelineError

_WEB = ("http://", "https://")
_KRIZ = "https://www.cs.toronto.edu/~kriz/"
_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC/"
_COCO = "http://images.cocodataset.org/"


class Official(NamedTuple):
    file: str
    md5: str
    url: str = ""  # "" where the user has to get the file, after signing a licence


# As in torchvision.datasets (a test compares), without the seconds that importing torch takes.
OFFICIAL = {
    "cifar10": Official("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", _KRIZ + "cifar-10-python.tar.gz"),
    "cifar100": Official(
        "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", _KRIZ + "cifar-100-python.tar.gz"
    ),
    "voc2007-trainval": Official(
        "VOCtrainval_06-Nov-2007.tar",
        "c52e279531787c972589f7e41ab4ae64",
        _VOC + "voc2007/VOCtrainval_06-Nov-2007.tar",
    ),
    "voc2007-test": Official(
        "VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", _VOC + "voc2007/VOCtest_06-Nov-2007.tar"
    ),
    "voc2012-trainval": Official(
        "VOCtrainval_11-May-2012.tar",
        "6cd6e144f989b92b3379bac3b3de84fd",
        _VOC + "voc2012/VOCtrainval_11-May-2012.tar",
    ),
    # COCO publishes no MD5; these are the ones that PaddleDetection and MLPerf's scripts compare.
    "coco-train": Official("train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", _COCO + "zips/train2017.zip"),
    "coco-val": Official("val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", _COCO + "zips/val2017.zip"),
    "coco-annotations": Official(
        "annotations_trainval2017.zip",
        "f4bbac642086de4f52a3fdda2de5fa2c",
        _COCO + "annotations/annotations_trainval2017.zip",
    ),
    "imagenet-train": Official("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e"),
    "imagenet-val": Official("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622"),
    "imagenet-devkit": Official("ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf"),
}
COCO = ("coco-train", "coco-val", "coco-annotations")
VOC = ("voc2007-trainval", "voc2007-test", "voc2012-trainval")
ILSVRC = ("imagenet-train", "imagenet-val", "imagenet-devkit")


class Located(NamedTuple):
    layout: str  # digits, digit-scenes, digit-objects, cifar-pickles, ilsvrc-tars, coco, voc, or class-folders for all of layouts.py: how readers.py reads the paths
    places: list[tuple[Path, str]]  # a file or folder, and the address or place it came from


@dataclass(frozen=True)
class Search:
    """The search for one data set, place by place; its fields are the arguments of `sources.fetch`."""

    data: DataConfig
    out: Path
    root: Path
    official: Mapping[str, Official]
    patience: Patience

    def locate(self) -> Located:
        searches: dict[str, Callable[[], Located]] = {
            "digits": partial(self._digits, "digits"),
            "digit_scenes": partial(self._digits, "digit-scenes"),
            "digit_objects": partial(self._digits, "digit-objects"),
            "folder": self._folder,
            "imagenet": self._imagenet,
            "boxes": self._boxes,
            "coco": partial(self._annotated, COCO, ("annotations",)),
            "voc": partial(self._annotated, VOC, ("VOC2007", "VOC2012", "VOCdevkit")),
            "cifar10": partial(self._published, "cifar-pickles"),
            "cifar100": partial(self._published, "cifar-pickles"),
        }
        return searches.get(self.data.source, partial(self._published, "class-folders"))()

    def _digits(self, layout: str) -> Located:
        from sklearn.datasets import load_digits

        published, path = load_digits(), self.out / "digits.npz"
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, images=published.images.astype(np.uint8), labels=published.target.astype(np.int64))
        return Located(layout, [(path, "scikit-learn: sklearn.datasets.load_digits")])

    def _published(self, layout: str) -> Located:
        """The official archive, which has this layout, or the same images as class folders."""
        source, official = self.data.source, self.official[self.data.source]
        candidates = [(place, official.md5) for place in self._in_mirror(official.file)]
        candidates += [(place, "") for place in self._in_mirror(*_class_folder_names(source))]
        candidates += [(official.url, official.md5)] if official.url else []
        title = f"{source} ({official.file}, or class folders as {source}.tgz, .tar, .zip or {source}/train)"
        advice = "put one into a folder and name that folder (override: data.mirror=/my/downloads)"
        path, origin = self._first(title, candidates, advice)
        return Located(layout if path.name == official.file else "class-folders", [(path, origin)])

    def _folder(self) -> Located:
        path = self.data.path
        if path:
            own = self._absolute(path)
            if own.is_file() and not own.name.lower().endswith(SUFFIXES):
                raise PipelineError(f"data.path={path} is neither a folder nor an archive ({', '.join(SUFFIXES)})")
            places = [str(own), *self._in_mirror(path)]
        else:
            places = self._in_mirror(*_class_folder_names(self.data.name))
        advice = (
            "name the folder or archive that holds the images (override: data.path=/my/images.tgz), or a folder that holds it "
            "(override: data.mirror=/my/downloads)"
        )
        return Located(
            "class-folders", [self._first(f"data set {self.data.name}", [(place, "") for place in places], advice)]
        )

    def _boxes(self) -> Located:
        return self._folder()._replace(layout="coco")

    def _annotated(self, archives: tuple[str, ...], folders: tuple[str, ...]) -> Located:
        """A folder that holds one of `folders`, or else the official archives."""
        source, path = self.data.source, self.data.path
        if path:
            place = self._absolute(path)
            if not any((place / name).is_dir() for name in folders):
                raise MissingError(
                    f"{place} holds no {' or '.join(f'{name}/' for name in folders)}; name the folder that does (override: "
                    f"data.path=/my/{source}), or none to download {source} (override: data.path='')"
                )
            return Located(source, [(place, str(place))])
        advice = "put it into a folder and name that folder (override: data.mirror=/my/downloads)"
        places = []
        for official in map(self.official.__getitem__, archives):
            candidates = [(place, official.md5) for place in (*self._in_mirror(official.file), official.url)]
            places.append(self._first(f"{source} ({official.file})", candidates, advice))
        return Located(source, places)

    def _imagenet(self) -> Located:
        path, files = self.data.path, [self.official[key].file for key in ILSVRC]
        places = [self._absolute(path)] if path else []
        places += [Path(place) for place in self._in_mirror(path or self.data.name, ".")]
        for place in places:
            if all((place / name).is_file() for name in files):
                return Located("ilsvrc-tars", [(place / name, str(place / name)) for name in files])
            if (place / "train").is_dir() and ((place / "val").is_dir() or (place / "test").is_dir()):
                return Located("class-folders", [(place, str(place))])
        raise MissingError(
            f"ImageNet needs a folder with {', '.join(files)}, or with train/<wnid>/ and val/<wnid>/, which is not what "
            f"{' or '.join(str(place) for place in places) or self.data.mirror} holds; get the files from image-net.org "
            "and name their folder (override: data.path=/my/imagenet)"
        )

    def _first(self, title: str, candidates: list[tuple[str, str]], advice: str) -> tuple[Path, str]:
        """Path and place of the first available candidate (place, MD5 or "")."""
        failures = []
        for place, md5 in candidates:
            try:
                return self._obtain(place, md5), place
            except UnavailableError as error:
                failures.append(f"{place} ({error})")
        raise MissingError(f"{title} is in none of the places: {'; '.join(failures)}; {advice}")

    def _obtain(self, place: str, md5: str) -> Path:
        if place.startswith(_WEB):
            target = self.out / unquote(place.rsplit("/", 1)[1])
            download(place, target, self.data.limits.total_gb * 1e9, md5, self.patience)
            return target
        path = Path(place)
        if not path.exists():
            raise UnavailableError("no such file")
        if not path.is_dir() and not path.is_file():  # reading a pipe or a device may never end
            raise UnavailableError("neither a folder nor a plain file")
        if path.is_dir() and self.data.source not in ("folder", *ANNOTATED) and not (path / "train").is_dir():
            raise UnavailableError("no train/ in it")
        if path.is_dir() and not visible(self.data)(os.listdir(path)):
            raise UnavailableError("an empty folder")
        if md5 and (actual := digest(path, "md5")) != md5:
            raise UnavailableError(f"its MD5 is {actual} instead of {md5}")
        return path

    def _in_mirror(self, *names: str) -> list[str]:
        """Places of these files or folders in the mirror; on the web, of archives alone."""
        mirror = self.data.mirror
        if mirror.startswith(_WEB):
            return [f"{mirror.rstrip('/')}/{quote(name)}" for name in names if name.lower().endswith(SUFFIXES)]
        if not mirror:
            return []
        return [str(self._absolute(mirror) / name) for name in names if not Path(name).is_absolute()]

    def _absolute(self, path: str) -> Path:
        return (self.root / Path(path).expanduser()).resolve()


def _class_folder_names(name: str) -> list[str]:
    return [*(name + suffix for suffix in SUFFIXES), name]
