"""Completion of the command line `evonas` in a shell."""

from collections.abc import Mapping, Sequence

__all__ = ["SHELLS", "completion"]

SHELLS = ("bash", "zsh")

HEAD = """\
_evonas() {
    local words
    case "${COMP_WORDS[1]}" in
"""
TAIL = """\
    esac
    [[ $COMP_CWORD == 1 ]] && words="%s"
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o bashdefault -o default -F _evonas evonas
"""


def completion(shell: str, flags: Mapping[str, Sequence[str]]) -> str:
    """A script for the shell to read: completes commands and flags, and paths where neither begins so.

    Args:
        shell: one of `SHELLS`.
        flags: command -> its flags, with their dashes.
    """
    first = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    cases = "".join(f'        {name}) words="{" ".join(flags[name])}" ;;\n' for name in sorted(flags))
    return first + HEAD + cases + TAIL % " ".join(["--help", "--version", "--print-completion", *sorted(flags)])
