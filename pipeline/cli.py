"""One command, a verb a stage: `pipeline train data=cifar10 model.depth=56`.

Nothing heavy is imported before a verb needs it, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.parent import end_with_dvc
from pipeline.run import Interrupted

VERBS = {
    "compose": "conf/, params.yaml and overrides -> composed.yaml",
    "fetch": "the published bytes, verified -> data/raw/<name>/",
    "preprocess": "arrays or shards, splits, statistics -> data/store/<name>/",
    "train": "one training run, made or resumed -> experiments/<name>/train.json",
    "sweep": "Ray Tune over sweep.space -> experiments/<name>/leaderboard.json",
    "adopt": "weights made elsewhere (start.weights) -> a run in MLflow that ensembles may take",
    "ensemble": "the best runs that MLflow knows -> experiments/<name>/ensemble/",
    "evaluate": "test error of members and ensemble -> experiments/<name>/evaluate.json",
    "report": "figures, tables, claims -> experiments/<name>/report/index.html",
    "summary": "members, ensemble and where the report lies",
    "publish": "this result into results/ and the README's table",
    "sync": "ship journals that MLflow has not seen",
}
USER_ERROR, INTERRUPTED = 2, 75  # 75: EX_TEMPFAIL, the same command goes on where this one stopped


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 a mistake that one sentence explains, 75 interrupted and resumable."""
    options, overrides = _parser().parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if options.help or options.verb is None:
        print(_help(options.verb))
        return 0 if options.help else USER_ERROR
    end_with_dvc()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _run(options, overrides)
    except (ValueError, FileNotFoundError) as error:
        if options.debug:
            raise
        print(f"pipeline {options.verb}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"pipeline {options.verb}: interrupted; the same command goes on from what is done", file=sys.stderr)
        return INTERRUPTED
    except Interrupted as error:
        if options.debug:
            raise
        print(f"pipeline {options.verb}: {error}; the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pipeline", add_help=False, allow_abbrev=False)
    parser.add_argument("verb", nargs="?", choices=VERBS)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--debug", action="store_true")
    return parser


def _run(options: argparse.Namespace, overrides: list[str]) -> int:
    from dataclasses import replace

    from pipeline.workspace import Workspace, anchor

    unknown = [o for o in overrides if o.startswith("-")]
    if unknown:
        raise ValueError(f"unknown option {unknown[0]}; see `pipeline {options.verb} --help`")
    workspace = Workspace(_root())
    from pipeline.config import from_dict

    checked = from_dict(_values(options, overrides, workspace))
    if options.cfg:
        import yaml

        print(yaml.safe_dump(checked.to_dict(), sort_keys=False, allow_unicode=True), end="")
        return 0
    if options.verb == "compose":
        from pipeline.stages import compose

        compose.run(checked, workspace)
        return 0
    _quiet()
    stage = importlib.import_module(f"pipeline.stages.{options.verb}")
    stage.run(anchor(checked, workspace.root), replace(workspace, data=checked.data.name))
    return 0


def _values(options: argparse.Namespace, overrides: list[str], workspace: Any) -> dict[str, Any]:
    from pipeline.compose import compose, read_mapping

    if options.config is None:
        return compose(workspace.root, overrides)
    if overrides:
        raise ValueError(
            f"--config {options.config} is already composed and takes no overrides; leave one of the two out"
        )
    if not options.config.is_file():
        raise FileNotFoundError(f"{options.config} is missing; `pipeline compose` writes it from conf/ and params.yaml")
    return read_mapping(options.config)


def _root() -> Path:
    """The nearest folder at or above the current one that holds conf/config.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "conf" / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no conf/config.yaml in {here} or above; run pipeline inside a clone of the repository")


def _quiet() -> None:
    """Keeps other libraries' start-up talk off the terminal; their warnings and errors stay."""
    import warnings

    os.environ.setdefault("LITLOGGER_DISABLED", "1")
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda", "alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")  # data.split=full


def _help(verb: str | None) -> str:
    lines = ["usage: pipeline VERB [key=value ...] [--config FILE] [--cfg job] [--debug]", ""]
    if verb is None:
        lines += [f"  {name:<11} {text}" for name, text in VERBS.items()]
    else:
        lines += [f"  {verb}: {VERBS[verb]}"]
    lines += [
        "",
        "  --cfg job      print the composed configuration and stop",
        "  --config FILE  a composed configuration (composed.yaml) instead of conf/, params.yaml and overrides",
        "  --debug        tracebacks",
        "",
        "choices:",
    ]
    try:
        from pipeline.compose import choices

        lines += [f"  {group}={'|'.join(names)}" for group, names in choices(_root()).items()]
    except FileNotFoundError as error:
        lines.append(f"  ({error})")
    lines += [
        "",
        "single values: model.depth=56 recipe.lr=0.05 trainer.devices=2 seed=1; all keys: pipeline train --cfg job",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
