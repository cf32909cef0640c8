"""The card of a set as a Markdown page, with the layout of RoCo-NAS's Table I."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from evonas.adversarial_sets.card import AttackCell, Card, Target

__all__ = ["card_markdown"]


def card_markdown(card: Card, fingerprint: str = "", sha256: str = "") -> str:
    """The card as Markdown: warnings, Table I, targets, budgets, origin.

    Args:
        fingerprint, sha256: of the set and of its file; shown if given.
    """
    facts = {**_origin(card), "fingerprint": fingerprint, "SHA-256 of the file": sha256}
    blocks = [
        f"# {_escaped(card.name)}",
        *(f"> **Warning:** {warning}." for warning in card.warnings),
        _MEANING,
        "## Successful samples",
        "Rows and columns as in Table I of RoCo-NAS: target, attack and threshold th (pixels for L0, 1/255 of the "
        "pixel scale for Linf). An image that two cells found counts in both.",
        _table_one(card, lambda successful, tried: successful),
        "## Successful / tried",
        _table_one(card, lambda successful, tried: f"{successful} / {tried}"),
        "## Targets",
        _table(_TARGET_COLUMNS, card.targets),
        "Accuracies are fractions: clean of the validation part, before any attack of the adversarial part.",
        "## Attacks",
        _table(_CELL_COLUMNS, card.cells),
        "## Origin",
        "\n".join(f"- {name}: {_escaped(text)}" for name, text in facts.items() if text),
    ]
    return "\n\n".join(blocks) + "\n"


_MEANING = (
    "This set measures **transferred, not white-box, robustness**: its images were made to fool the target networks "
    "below, not the network that is scored on them. A network that does well here may still be fooled by an attack "
    "that is made against it."
)


def _origin(card: Card) -> dict[str, str]:
    data = card.data
    seeds = {"everything": card.seed, "split of the data": data.split_seed, **card.seeds}
    return {
        "images": f"{card.images} distinct, {card.images_l0} of them in L0 and {card.images_linf} in Linf; "
        f"{card.records} records",
        "sources": f"{card.sources} of the {data.adversarial_images} clean images in the adversarial part of "
        f"{data.name} (fingerprint {data.adversarial_fingerprint}); each record holds its image's index",
        "targets trained on": f"the train part, {data.train_images} images (fingerprint {data.train_fingerprint})",
        "pixels": f"3x{data.image_size}x{data.image_size}, 8 bit, {data.n_classes} classes; the targets' first layer "
        f"takes mean {', '.join(map(str, data.mean))} and deviation {', '.join(map(str, data.deviation))}",
        "preset": card.preset,
        "computed on": f"{card.device} in {card.precision} with {card.threads} threads",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in seeds.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        "created by": card.created_by,
    }


def _table_one(card: Card, shown: Callable[[int, int], object]) -> str:
    """Table I: targets sorted by name as in the paper, thresholds of each attack ascending, totals on both sides.

    Args:
        shown: (successful, tried) -> text of a cell.
    """
    columns = sorted({(cell.attack, cell.threshold) for cell in card.cells})
    successful, tried = Counter[Any](), Counter[Any]()
    for cell in card.cells:
        for place in product((cell.target, "Total"), ((cell.attack, cell.threshold), "Total")):
            successful[place] += cell.successful
            tried[place] += cell.tried

    def text(row: str, column: object) -> object:
        return shown(successful[row, column], tried[row, column]) if (row, column) in tried else "–"

    names = (*sorted(target.name for target in card.targets), "Total")
    rows = [[name, *(text(name, column) for column in (*columns, "Total"))] for name in names]
    return _markdown_table(["Target", *(f"{attack} {threshold}" for attack, threshold in columns), "Total"], rows)


def _change(cell: AttackCell, value: float) -> str:
    return f"{value:.4g} px" if cell.attack == "L0" else f"{value * 255:.4g}/255"


_TARGET_COLUMNS: dict[str, Callable[[Target], object]] = {
    "Target": lambda target: target.name,
    "Width": lambda target: target.width,
    "Depth": lambda target: "–" if target.depth is None else target.depth,
    "Parameters": lambda target: target.params,
    "MACs": lambda target: target.macs,
    "Train images": lambda target: target.train_images,
    "Epochs": lambda target: target.epochs,
    "Learning rate": lambda target: target.lr,
    "Batch": lambda target: target.batch_size,
    "Clean accuracy": lambda target: target.clean_accuracy,
    "Adversarial part accuracy": lambda target: target.adversarial_part_accuracy,
    "Recipe": lambda target: target.recipe,
}
_CELL_COLUMNS: dict[str, Callable[[AttackCell], object]] = {
    "Target": lambda cell: cell.target,
    "Attack": lambda cell: cell.attack,
    "th": lambda cell: cell.threshold,
    "Algorithm": lambda cell: cell.algorithm,
    "Population": lambda cell: cell.population,
    "Generations": lambda cell: cell.generations,
    "Largest change": lambda cell: _change(cell, cell.epsilon_used),
    "Mean change": lambda cell: _change(cell, cell.epsilon_mean),
    "Individuals scored": lambda cell: cell.evaluations,
    "Seconds": lambda cell: round(cell.seconds, 1),
}


def _table(columns: Mapping[str, Callable[[Any], object]], records: Sequence[object]) -> str:
    return _markdown_table(list(columns), [[column(record) for column in columns.values()] for record in records])


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_escaped(_shown(value)) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _escaped(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return "".join(f"\\{letter}" if letter in "\\|<>[]*`#" else letter for letter in text)
