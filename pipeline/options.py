"""Options of Hydra's own programs: what the user of one finds here in their place."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import printable

_FOLDER = "conf/config.yaml begins every composition; add files to it from a folder of your own (--config-dir /my/conf)"
_HERE = {
    ("--info", "-i"): "`pipeline keys` explains each key, `pipeline {verb} --cfg job` prints what they come to",
    ("--hydra-help",): "`pipeline {verb} --help` lists the choices, `pipeline keys` explains each key",
    ("--config-name", "-cn"): _FOLDER,
    ("--config-path", "-cp"): _FOLDER,
    ("--resolve",): "`pipeline {verb} --cfg job` prints resolved values",
    ("--package", "-p"): "`pipeline {verb} --cfg job` prints all sections",
    ("--run", "-r"): "leave it out",
    ("--experimental-rerun",): "`pipeline {verb} --config composed.yaml` runs what was composed before",
}


def unknown(option: str, verb: str, overrides: Sequence[str]) -> str:
    """The sentence for an option that no verb has."""
    from pipeline.compose import as_sweep

    name = option.partition("=")[0]
    if name in ("--multirun", "-m"):
        return f"{name}: several trainings are one sweep here; run `{as_sweep(overrides)}`"
    for names, instead in _HERE.items():
        if name in names:
            return f"{name} is Hydra's; here {instead.format(verb=verb)}"
    return f"unknown option {printable(option)}; see `pipeline {verb} --help`"
