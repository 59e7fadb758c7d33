"""completion: a script that completes verbs, keys, choices and their values in bash, zsh or fish.

The words are those of this version and of conf/ as it is; nothing of this project runs while the user types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.config.reference import parts
from pipeline.errors import PipelineError, printable
from pipeline.verbs import OPTIONS

# Bash breaks words at "=" too, so a candidate loses what stands before the last one.
BASH = """_pipeline() {{
    local line=${{COMP_LINE:0:$COMP_POINT}}
    local word=${{line##* }} words="{words}"
    [[ "${{line% *}}" == *" "* ]] || words="{verbs}"
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ "${{COMPREPLY[0]}}" == *= && ${{#COMPREPLY[@]}} == 1 ]] && compopt -o nospace 2>/dev/null
    [[ "$word" == *=* ]] && COMPREPLY=("${{COMPREPLY[@]#"${{word%=*}}="}}")
    return 0
}}
complete -F _pipeline pipeline
"""
SCRIPTS = {
    "bash": BASH,
    "zsh": "autoload -Uz bashcompinit && bashcompinit\n" + BASH,
    "fish": 'complete -c pipeline -f -n __fish_use_subcommand -a "{verbs}"\n'
    'complete -c pipeline -f -n "not __fish_use_subcommand" -a "{words}"\n',
}


def show(
    shells: Sequence[str],
    verbs: Mapping[str, Iterable[str]],
    choices: Mapping[str, Sequence[str]],
) -> None:
    """Prints the script for one shell.

    Args:
        verbs: words that may follow each verb.
        choices: files of conf/ by group.
    Raises:
        PipelineError: no shell, or one that has no script.
    """
    if len(shells) != 1 or shells[0] not in SCRIPTS:
        given = printable(" ".join(shells)) or "no shell"
        raise PipelineError(
            f'`pipeline completion` takes one of {", ".join(SCRIPTS)}, not {given}; write `eval "$(pipeline completion bash)"` '
            "into ~/.bashrc"
        )
    options = ["--help", *(option.split()[0] for option in OPTIONS)]
    words = [*options, *(word for follow in verbs.values() for word in follow)]
    words += [f"{group}={name}" for group, names in choices.items() for name in names]
    for key in (key for part in parts() for key in part.keys):
        words += [f"{key.name}={value}" for value in key.choices] or [f"{key.name}="]
    print(SCRIPTS[shells[0]].format(words=" ".join(words), verbs=" ".join([*verbs, *options])), end="")
