"""Configurations: values of every sort for every key, overrides, and YAML files broken in every way."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pipeline.compose import compose
from pipeline.config import Config, from_dict, kind_of
from pipeline.config.section import kinds
from pipeline.errors import PipelineError
from reliability import Outcome
from reliability.child import pipeline

PROMISE = "composes and can be used, or is refused in one sentence that names the key or the file"
ROOT = Path(__file__).resolve().parents[1]
CONFIGURATIONS, OVERRIDES, FILES = 30_000, 400, 400
BUILT = 20  # of so many configurations that compose, one has its net built
DEEPEST = 56  # of the nets that are built
TIMEOUT_S, MEMORY = 20, 1 << 30
MARK = "mark"  # the file that code in a YAML file would leave

EDGES = [-1, 0, 1, 2, 3, 8, 9998, 2**31 - 1, 2**31, 2**32, 2**63, 2**70, 10**400, 1e-320, 1e-12, 0.5, 1.0, 1e38, 1e300]
ODD = [
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    True,
    False,
    None,
    "",
    "1e-3",
    "1e999",
    "nan",
    "~",
    "\0",
    "\ud800",
    "x" * 300,
]
ODD += [
    "auto",
    "[",
    "${seed}",
    "a\nb",
    "\x1b[2J",
    "画像",
    "../..",
    "0x10",
    "1_000",
    "full",
    "plateau",
    "cosine",
    "shards",
]


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    rng = random.Random(seed)
    bases = [compose(ROOT, [f"data={data}"]) for data in ("digits", "cifar10", "imagenette")]
    for at in range(CONFIGURATIONS):
        yield _configuration(rng, rng.choice(bases), f"configuration {at} of seed {seed}", at % BUILT == 0)
    for at in range(OVERRIDES):
        yield _overrides(rng, f"overrides {at} of seed {seed}")
    shutil.copytree(ROOT / "conf", scratch / "conf")
    for at in range(FILES):
        yield _file(rng, scratch, f"file {at} of seed {seed}")


def keys(section: Any = Config, prefix: str = "") -> list[str]:
    """Dotted keys of all fields that are no section."""
    return [
        key
        for name, kind in kinds(section).items()
        for key in (keys(kind, f"{prefix}{name}.") if is_dataclass(kind) else [f"{prefix}{name}"])
        if not key.startswith("choices")
    ]


KEYS = keys()
SECTIONS = sorted({key.rsplit(".", 1)[0] for key in KEYS if "." in key})


def changed(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of nested values with one dotted key replaced."""
    values = deepcopy(values)
    *parents, leaf = key.split(".")
    node = values
    for parent in parents:
        node = node.setdefault(parent, {})
    node[leaf] = value
    return values


def use(config: Config, build: bool = True) -> None:
    """What a training makes of a configuration before its first step."""
    import torch

    from pipeline.learn.input import order
    from pipeline.learn.models import build_model
    from pipeline.learn.training.optimisers import optimisers
    from pipeline.learn.training.schedule import lr_at, side_at
    from pipeline.tuning.space import example_points

    torch.manual_seed(config.seed)
    assert sorted(order.permutation(7, config.seed, epoch=0)) == list(range(7))
    recipe = config.recipe
    for step in (0, recipe.max_steps // 3, recipe.max_steps - 1):
        assert math.isfinite(lr_at(step, recipe)) and 1 <= side_at(step, recipe) <= recipe.augment.crop
    if build and config.model.depth <= DEEPEST:
        with torch.device("meta"):
            net = build_model(config.model, 10, 3)
        for optimiser in optimisers(net, recipe, config.start.backbone_lr):
            assert all(math.isfinite(group["lr"] * group["share"]) for group in optimiser.param_groups)
    example_points(config.sweep.space)


def names_a_key(refusal: PipelineError, keys: Iterable[str] = (*KEYS, *SECTIONS)) -> bool:
    """Whether each line of the refusal can be printed, and one names one of the keys."""
    lines = str(refusal).splitlines()
    named = any(key.rsplit(".", 1)[-1] in str(refusal) for key in keys)
    return named and all(line.isprintable() and len(line) < 2000 for line in lines)


def _value(rng: random.Random, depth: int = 0) -> Any:
    """A value of any sort; half of them numbers."""
    sort = rng.randrange(8 if depth < 2 else 6)
    if sort < 2:
        return rng.choice(EDGES)
    if sort == 2:
        return rng.choice([rng.randrange(-3, 300), rng.random(), 10 ** rng.uniform(-9, 9), rng.gauss(0, 1e6)])
    if sort < 5:
        return rng.choice(ODD)
    if sort == 5:
        return "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x2FFF)])) for _ in range(rng.randrange(12)))
    if sort == 6:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {
        rng.choice([rng.choice(KEYS), "uniform", "loguniform", "space", ""]): _value(rng, depth + 1)
        for _ in range(rng.randrange(1, 3))
    }


def _key_and_value(rng: random.Random) -> tuple[str, Any]:
    """A key with a value of any sort, or, as often, one of its own kind."""
    key = rng.choice(KEYS)
    kind, own = kind_of(Config, key), []
    if get_origin(kind) is Literal:
        own = [rng.choice(get_args(kind))]
    for limit in getattr(kind, "__metadata__", ()):
        own = [
            rng.randrange(int(limit.least), 1 + int(min(limit.most, 1000))) * (1 if kind.__origin__ is int else 0.01)
        ]
    return key, own[0] if own and rng.random() < 0.5 else _value(rng)


def _configuration(rng: random.Random, base: dict[str, Any], name: str, build: bool) -> Outcome:
    picked = [_key_and_value(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    values = base
    for key, value in picked:
        values = changed(values, key, value)
    try:
        config = from_dict(values)
        use(config, build)
    except PipelineError as refusal:
        ok = names_a_key(refusal, [key for key, _ in picked])
        return Outcome(name, ok, "" if ok else f"{picked!a:.200}: {refusal}", "values of keys")
    except Exception as error:
        return Outcome(name, False, f"{picked!a:.200}: {type(error).__name__}: {error!s:.100}", "values of keys")
    return Outcome(name, True, row="values of keys")


def _overrides(rng: random.Random, name: str) -> Outcome:
    """Words as a command line has them: a key and some text, now and then mangled."""
    words, given = [], []
    for _ in range(rng.randrange(1, 4)):
        key, value = rng.choice([*KEYS, "data", "recipe", "model", "sweep", "tracking"]), _value(rng)
        word = f"{key}={value}" if rng.random() < 0.8 else f"{rng.choice(['+', '++', '~', '', '='])}{key}{value}"
        words.append(word.replace("'", rng.choice(["'", "", '"'])))
        given.append(key)
    try:
        use(from_dict(compose(ROOT, words)), build=False)
    except PipelineError as refusal:
        ok = names_a_key(refusal, given)
        return Outcome(name, ok, "" if ok else f"{words!a:.200}: {refusal}", "overrides")
    except Exception as error:
        return Outcome(name, False, f"{words!a:.200}: {type(error).__name__}: {error!s:.100}", "overrides")
    return Outcome(name, True, row="overrides")


def _file(rng: random.Random, root: Path, name: str) -> Outcome:
    """A damaged params.yaml, file of conf/, or composed.yaml, through the command line; code in it would leave a mark."""
    shutil.copy(ROOT / "params.yaml", root)
    place = rng.choice(["params.yaml", "conf/recipe/cifar_quick.yaml", "conf/config.yaml", "composed.yaml"])
    if place == "composed.yaml":
        assert pipeline("compose", cwd=root).code == 0
    path, kind = root / place, rng.choice(list(DAMAGE))
    good = path.read_bytes()
    path.write_bytes(DAMAGE[kind](rng, good))
    composed = ["--config", place] if place == "composed.yaml" else []
    ended = pipeline("train", *composed, "--cfg", "job", cwd=root, timeout_s=TIMEOUT_S, memory=MEMORY)
    noticed = ended.refused() and (
        "conf/" in ended.output or place in ended.output or names_a_key(PipelineError(ended.last_line))
    )
    # The checksum shows every change behind it.
    kept = path.read_bytes() == good or not composed or not path.read_bytes().startswith(good[:96])
    path.write_bytes(good)
    ok = (noticed or (ended.code == 0 and kept)) and not (root / MARK).exists()
    return Outcome(f"{name}: {place}, {kind}", ok, "" if ok else ended.summary(), "YAML files")


def _inserted(text: bytes) -> Callable[[random.Random, bytes], bytes]:
    """`text` as lines of their own, at a random line of the file."""

    def damage(rng: random.Random, good: bytes) -> bytes:
        lines = good.splitlines(keepends=True)
        lines.insert(rng.randrange(len(lines) + 1), text + b"\n")
        return b"".join(lines)

    return damage


def _flipped(rng: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


BOMB = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)
MERGE_BOMB = b"m0: &m0 {x: 1}\n" + b"".join(
    b"m%d: &m%d {<<: [%s]}\n" % (n, n, b",".join([b"*m%d" % (n - 1)] * 9)) for n in range(1, 12)
)
DAMAGE: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "bit flipped": _flipped,
    "cut": lambda rng, good: good[: rng.randrange(len(good))],
    "noise": lambda rng, good: rng.randbytes(rng.randrange(1, 500)),
    "NUL": lambda rng, good: good.replace(b"e", b"\0", 1),
    "not UTF-8": lambda rng, good: good.replace(b"e", b"\xe9", 1),
    "UTF-16": lambda rng, good: good.decode().encode("utf-16"),
    "byte order mark": lambda rng, good: b"\xef\xbb\xbf" + good,
    "aliases": lambda rng, good: BOMB + good,
    "merged aliases": lambda rng, good: MERGE_BOMB + good,
    "holds itself": _inserted(b"seed: &a [*a]"),
    "nested": lambda rng, good: b"seed: " + b"[" * rng.choice([100, 5_000, 100_000]),
    "nested keys": lambda rng, good: b"".join(b" " * n + b"a:\n" for n in range(rng.choice([50, 600]))),
    "giant": lambda rng, good: good + b"# " + b"x" * (1 << 20),
    "long number": _inserted(b"seed: " + b"9" * 5000),
    "long hex number": _inserted(b"seed: 0x" + b"f" * 5000),
    "no date": _inserted(b"seed: 2024-13-45"),
    "Python object": _inserted(f"seed: !!python/object/apply:os.system ['touch {MARK}']".encode()),
    "tag": _inserted(b"seed: !!binary '%%%'"),
    "set": _inserted(b"seed: !!set {a, b}"),
    "list as key": _inserted(b"? [a, b]\n: 1"),
    "number as key": _inserted(b"1: 2"),
    "tab": _inserted(b"\tseed: 1"),
    "two documents": lambda rng, good: good + b"\n---\nseed: 1\n",
    "list": lambda rng, good: b"- " + good.replace(b"\n", b"\n  "),
    "null": lambda rng, good: b"null\n",
    "interpolation": _inserted(b"seed: ${seed}"),
    "endless interpolation": _inserted(b"seed: ${model.depth}\nmodel: {depth: '${seed}'}"),
}
