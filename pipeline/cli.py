"""One command with a verb for each stage: `pipeline train data=cifar10 model.depth=56`.

A verb imports what it needs when it runs, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from pipeline.border import INTERRUPTED, MACHINE, USER_ERROR, package, report
from pipeline.credentials import RedactingFormatter
from pipeline.errors import MissingError, PipelineError, printable, running
from pipeline.parent import dvc_arguments, end_with_dvc
from pipeline.run import Interrupted
from pipeline.run.signals import on_termination
from pipeline.verbs import VERBS, help_for, help_for_all


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb. Returns the exit status, which `pipeline.border` lists."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it (>&-)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the process ends)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr; the locale may lack a character of a table
    options, overrides = _parser().parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if options.version:
        print(package())
        return 0
    if options.help or options.verb is None:
        try:
            print(_help(options.verb, options.config_dir), flush=True)
        except BrokenPipeError:  # its reader, head for example, has seen enough
            _drop_output()
        return 0 if options.help else USER_ERROR
    end_with_dvc()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    words, overrides = _words(options.verb, overrides)
    try:
        with running(_given(options, overrides)):
            status = _run(options, words, overrides)
        sys.stdout.flush()  # here a full disk or a closed pipe can still be reported
        return status
    except (KeyboardInterrupt, Interrupted) as error:
        if options.debug:
            raise
        remedy = "; the same command resumes" if VERBS[options.verb].resumes else ""
        print(f"pipeline {options.verb}: {str(error) or 'interrupted'}{remedy}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if options.debug:
            raise
        status = report(error, options.verb)
        if status == MACHINE:
            _drop_output()
        return status


def _drop_output() -> None:
    """Drops what stdout still holds where it cannot be written, or Python would fail once more at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pipeline", add_help=False, allow_abbrev=False)
    parser.add_argument("verb", nargs="?", choices=VERBS)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--config-dir", type=Path)
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--version", action="store_true")
    return parser


def _words(verb: str, arguments: list[str]) -> tuple[list[str], list[str]]:
    """The words that belong to the verb, and what is left: overrides and unknown options.

    Actions, and the words of keys and completion, follow their verb at once; files stand anywhere.
    """
    if VERBS[verb].files:
        return [word for word in arguments if not _is_no_file(word)], [word for word in arguments if _is_no_file(word)]
    first = next((at for at, word in enumerate(arguments) if "=" in word or word[:1] in "-~"), len(arguments))
    takes = bool(VERBS[verb].words or VERBS[verb].actions)
    return (arguments[:first], arguments[first:]) if takes else ([], arguments)


def _is_no_file(word: str) -> bool:
    """Whether a word is an override or an option, and no file; ./a=b.png is one."""
    first = word.split("/")[0]
    return "=" in first or (word[:1] in "-~+" and first != "~")


def _function(verb: str, words: list[str], detects: bool = False) -> Callable[..., None]:
    """What runs `verb`, with the words after it bound.

    Args:
        detects: whether the net is a detector, for which some verbs have functions of their own.

    Raises:
        PipelineError: words that the verb does not know.
    """
    if VERBS[verb].files:
        return partial(importlib.import_module(f"pipeline.stages.{verb}").run, images=words)
    if detects and VERBS[verb].detectors == "none":
        raise PipelineError(
            f"`pipeline {verb}` with a detector; it takes nets that classify. `pipeline predict` shows what a "
            "detector finds"
        )
    stages = "pipeline.stages.detection" if detects and VERBS[verb].detectors == "apart" else "pipeline.stages"
    if not words:
        return importlib.import_module(f"{stages}.{verb}").run
    action, *names = words
    actions = VERBS[verb].actions
    if action not in actions or len(names) > 1:
        raise PipelineError(
            f"`pipeline {verb} {printable(' '.join(words))}`: after {verb} comes one of {', '.join(actions)}, with a "
            "name if you like, or overrides such as seed=1"
        )
    module = importlib.import_module(f"{stages}.{actions[action][0]}")
    return partial(getattr(module, action), name=names[0] if names else "")


def _run(options: argparse.Namespace, words: list[str], overrides: list[str]) -> int:
    from pipeline.anchor import anchor
    from pipeline.config import from_dict
    from pipeline.options import unknown as unknown_option
    from pipeline.workspace import Workspace

    unknown = [o for o in overrides if o.startswith("-")]
    if unknown:
        raise PipelineError(unknown_option(unknown[0], options.verb, [o for o in overrides if not o.startswith("-")]))
    if options.verb == "keys":  # of any clone, with any values
        importlib.import_module("pipeline.stages.keys").show([*words, *overrides])
        return 0
    root = _root()
    if options.verb == "completion":
        from pipeline.compose import choices

        importlib.import_module("pipeline.stages.completion").show(
            words, {name: verb.actions for name, verb in VERBS.items()}, choices(root, options.config_dir)
        )
        return 0
    _require_own_code(root, options.verb, [*words, *_given(options, overrides)])
    config = from_dict(_values(options, overrides, root))
    if options.config is None:  # a file may be that of an earlier run
        config.check_composed()
    if options.cfg:
        import yaml

        print(yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True), end="")
        return 0
    if config.trainer.debug and options.verb != "train":
        raise PipelineError(
            f"trainer.debug={config.trainer.debug} with `pipeline {options.verb}`; only `pipeline train` debugs (override: trainer.debug='')"
        )
    _quiet()
    function = _function(options.verb, words, config.model.detects)
    if not VERBS[options.verb].stops:
        on_termination(signal.default_int_handler)  # as Ctrl-C, so that what is half made is removed
    # composed.yaml keeps paths relative, so that it is the same in every clone.
    function(config if options.verb == "compose" else anchor(config, root), Workspace(root, config.data.name))
    return 0


def _given(options: argparse.Namespace, overrides: list[str]) -> list[str]:
    """The words that decide the configuration."""
    if options.config is not None:
        return ["--config", str(options.config)]
    return [*overrides, *(["--config-dir", str(options.config_dir)] if options.config_dir else [])]


def _values(options: argparse.Namespace, overrides: list[str], root: Path) -> dict[str, Any]:
    from pipeline.compose import compose, require_no_lost_value
    from pipeline.documents import read_mapping

    if options.config is None:
        if options.verb == "compose":
            require_no_lost_value(dvc_arguments())
        return compose(root, overrides, options.config_dir)
    if overrides or options.config_dir:
        raise PipelineError(
            f"--config {options.config} is already composed and takes no overrides or --config-dir; leave out one of the two"
        )
    remedy = "`pipeline compose` writes composed.yaml anew, from conf/ and params.yaml"
    if not (values := read_mapping(options.config, remedy)):
        raise PipelineError(f"{printable(options.config)} holds no configuration; {remedy}")
    return values


def _root() -> Path:
    """The nearest folder at or above the current one that holds conf/config.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "conf" / "config.yaml").is_file():
            return folder
    raise MissingError(f"no conf/config.yaml in {here} or above; run pipeline inside a clone of the repository")


def _require_own_code(root: Path, verb: str, words: Sequence[str]) -> None:
    """A clone, or the copy in which DVC runs a queued experiment, has code of its own, which `pipeline` need not be.

    Raises:
        PipelineError: the code that runs is that of another folder.
    """
    own, running = root / "pipeline", Path(__file__).resolve().parent
    if (own / "cli.py").is_file() and not own.samefile(running):
        command = shlex.join(["python", "-m", "pipeline", verb, *words])
        raise PipelineError(
            f"{root} has code of its own, and this command would run that of {running.parent}; `cd {shlex.quote(str(root))} && "
            f"{command}` runs its own"
        )


def _quiet() -> None:
    """Silences other libraries' start-up messages; their warnings and errors stay."""
    import warnings

    os.environ.setdefault("LITLOGGER_DISABLED", "1")
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda", "alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")  # data.split=full


def _help(verb: str | None, own: Path | None) -> str:
    from pipeline.compose import choices

    try:
        groups = choices(_root(), own)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        groups = {}
    return help_for_all(groups) if verb is None else help_for(verb, groups)
