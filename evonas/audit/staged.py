"""AutoAttack, with the error after each of its attacks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evonas.attacks import AutoAttack
from evonas.audit.images import CountsErrors, reporting
from evonas.data import Dataset, DevicePart, batches
from evonas.objectives import Candidate
from evonas.objectives.scoring import wrong_under
from evonas.types import Report

__all__ = ["StagedAutoAttack"]


@dataclass(frozen=True)
class StagedAutoAttack(CountsErrors):
    """Error under the whole ensemble, which is that after its last attack, and the errors after each of them.

    An attack sees the images on which all earlier ones failed, and begins with the same seed as these, as in the
    authors' package.
    """

    column: str
    attack: AutoAttack

    def wrong(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, Tensor]:
        part = DevicePart(tested.validation, candidate.device)
        on_batch, done = reporting(report, candidate, self.column, len(part)), 0
        found: dict[str, list[Tensor]] = {name: [] for name in self.attack.attacks_to_run}
        for images, labels in batches(part, batch_size):
            wrong, state = wrong_under(candidate.network, [(images, labels)]), candidate.generator.get_state()
            for name in found:
                candidate.generator.set_state(state)
                left = torch.nonzero(~wrong).squeeze(1).to(labels.device)
                alone = replace(self.attack, attacks=(name,))
                attacked = alone(candidate.attacked, images[left], labels[left], candidate.generator)
                if len(left):
                    wrong[left.cpu()] = wrong_under(candidate.network, [(attacked, labels[left])])
                found[name].append(wrong.clone())
            done += len(labels)
            on_batch(done)
        after = {f"{self.column}_{name.replace('-', '_')}": torch.cat(each) for name, each in found.items()}
        return {self.column: [*after.values()][-1], **after}
