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
    if [[ $COMP_CWORD -ge 3 && " %s " == *" ${COMP_WORDS[1]} "* && -f "${COMP_WORDS[2]}/front.csv" ]]; then
        words+=" best knee $(tail -n +2 "${COMP_WORDS[2]}/front.csv" | cut -d, -f1 | tr '\\n' ' ')"
    fi
    [[ $COMP_CWORD == 1 ]] && words="%s"
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o bashdefault -o default -F _evonas evonas
"""


def completion(shell: str, flags: Mapping[str, Sequence[str]], of_networks: Sequence[str] = ()) -> str:
    """A script for the shell to read: completes commands and flags, and paths where neither begins so.

    Args:
        shell: one of `SHELLS`.
        flags: command -> its flags, with their dashes.
        of_networks: commands whose second word is a run's folder, and further ones networks of its front.
    """
    first = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    cases = "".join(f'        {name}) words="{" ".join(flags[name])}" ;;\n' for name in sorted(flags))
    return (
        first
        + HEAD
        + cases
        + TAIL % (" ".join(of_networks), " ".join(["--help", "--version", "--print-completion", *sorted(flags)]))
    )
