"""Averages of weights: against references written out, through checkpoints, and as what a training delivers."""

import copy
import io
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from evonas.data import Augmentation, DevicePart, load_data
from evonas.errors import ConfigurationError
from evonas.networks.blocks import seeded
from evonas.spaces import PhaseSpace
from evonas.training import TradesAwp, Training, TrainingConfig, standard, train_epochs
from evonas.training.averaging import WeightAverage, recalibrate

CPU = torch.device("cpu")
DIGITS = load_data("digits", train_limit=60, val_limit=10)
PHASES = PhaseSpace(phases=2, nodes=3, channels=4)


def built() -> nn.Module:
    return seeded(lambda: PHASES.build(PHASES.designs()["chain"], normalization=DIGITS.normalization), 0)


def training(config: TrainingConfig, recipe: object = standard) -> Training:
    part = DevicePart(DIGITS.train, CPU)
    drawn = torch.Generator().manual_seed(0)
    return Training(built(), part, Augmentation(padding=2), config, recipe, drawn)  # type: ignore[arg-type]


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def config(**given: object) -> TrainingConfig:
    return TrainingConfig(epochs=3, batch_size=20, lr=0.05, precision="fp32", **given)  # type: ignore[arg-type]


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_ema_is_the_recursion_with_a_decay_that_grows_to_its_own() -> None:
    torch.manual_seed(0)
    network = small()
    average = WeightAverage(network, config(average="ema", average_decay=0.5))
    expected = state(network)
    for update in range(12):
        with torch.no_grad():
            for value in network.state_dict().values():
                value.add_(torch.randn(value.shape) if value.is_floating_point() else 1)
        decay = min(0.5, (1 + update) / (10 + update))
        for name, value in network.state_dict().items():
            mixed = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
            expected[name] = mixed.clone()
        average.after_step()
        average.after_epoch(update)  # of SWA alone
    assert expected["1.num_batches_tracked"] == 12
    for name, value in expected.items():
        torch.testing.assert_close(average.values[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_swa_is_the_mean_of_the_last_epochs() -> None:
    network = small()
    average = WeightAverage(network, TrainingConfig(epochs=8, average="swa", average_from=0.75))
    for epoch in range(8):
        with torch.no_grad():
            network[0].weight.fill_(float(epoch))  # type: ignore[index]
        average.after_step()  # of EMA alone
        average.after_epoch(epoch)
    assert average.values["0.weight"].tolist() == [[6.5, 6.5]] * 3  # of epochs 6 and 7


@pytest.mark.parametrize("kind", ["ema", "swa"])
@pytest.mark.lengthy
def test_a_training_delivers_the_average_and_goes_on_from_its_checkpoint_bit_for_bit(kind: str, tmp_path: Path) -> None:
    settings = config(average=kind, average_from=0.3)
    recipe = TradesAwp(steps=1, warmup=0.5)
    whole = training(settings, recipe)
    train_epochs(whole, None, {}, "a training")
    last = training(config(), recipe)
    train_epochs(last, None, {}, "a training")
    weights = [name for name, each in last.network.named_parameters() if each.ndim > 1]
    assert any(not torch.equal(state(whole.network)[name], state(last.network)[name]) for name in weights)

    path = tmp_path / "training.pt"
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            train_epochs(training(settings, recipe), path, {}, "a training", on_epoch=partial(stop_after, epoch))
    resumed = training(settings, recipe)
    train_epochs(resumed, path, {}, "a training")
    found, expected = state(resumed.network), state(whole.network)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    finished = training(settings, recipe)
    train_epochs(finished, path, {}, "a training")  # nothing is left to do
    assert all(torch.equal(state(finished.network)[name], value) for name, value in expected.items())


def stop_after(epoch: int, rows: list[dict[str, object]]) -> None:
    if len(rows) == epoch:
        raise KeyboardInterrupt


def test_averaging_changes_nothing_of_the_training_itself() -> None:
    plain, averaged = training(config()), training(config(average="ema"))
    losses = [[each.run_epoch() for _ in range(3)] for each in (plain, averaged)]
    assert losses[0] == losses[1]


def test_ema_of_a_training_is_that_of_its_weights_after_every_step() -> None:
    one = training(TrainingConfig(epochs=1, batch_size=20, lr=0.05, precision="fp32", average="ema"))
    seen = [state(one.network)]
    descend = one._descend

    def recorded(images: Tensor, labels: Tensor) -> tuple[Tensor]:
        found = descend(images, labels)
        seen.append(state(one.network))
        return found

    one._descend = recorded  # type: ignore[method-assign]
    one.run_epoch()
    assert len(seen) == 4
    expected = seen[0]
    for update, weights in enumerate(seen[1:]):
        decay = min(0.999, (1 + update) / (10 + update))
        expected = {name: decay * expected[name].double() + (1 - decay) * weights[name].double() for name in weights}
    for name, value in state(one.network).items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_recalibrated_statistics_are_the_means_over_the_passes() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    batches = [torch.randn(4, 3, 5, 5) for _ in range(6)]
    norm(10 * batches[0])
    recalibrate(norm, [lambda batch=batch: norm(batch) for batch in batches])  # type: ignore[misc]
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(dim=1) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1


def test_the_identity_of_a_training_names_averages_and_cycles_where_they_are_used() -> None:
    plain = TrainingConfig().identity()
    assert not {"average", "average_decay", "average_from", "cyclic"} & plain.keys()
    assert TrainingConfig(average="ema").identity() == {**plain, "average": "ema", "average_decay": 0.999}
    assert TrainingConfig(average="swa").identity() == {**plain, "average": "swa", "average_from": 0.75}
    assert TrainingConfig(cyclic=True).identity() == {**plain, "cyclic": True}


def test_a_cyclic_rate_rises_and_falls_on_a_line() -> None:
    made = training(TrainingConfig(epochs=5, batch_size=60, lr=0.2, precision="fp32", cyclic=True))
    rates = []
    for _ in range(5):
        rates.append(made._optimiser.param_groups[0]["lr"])
        made.run_epoch()
    assert rates == pytest.approx([0.04, 0.12, 0.2, 0.12, 0.04])
    kept = io.BytesIO()
    torch.save(copy.deepcopy(made.state()), kept)
    kept.seek(0)
    again = training(TrainingConfig(epochs=5, batch_size=60, lr=0.2, precision="fp32", cyclic=True))
    again.restore(torch.load(kept, weights_only=True))
    assert again.epoch == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"average": "mean"}, "expected average .*none, ema"),
        ({"average_decay": 1.0}, r"expected average_decay in \[0, 1\), got 1.0"),
        ({"cyclic": True, "milestones": (2,)}, "expected one schedule of the learning rate"),
        (
            {"average": "swa", "epochs": 4},
            r"expected two epochs or more that swa averages, got 1 of 4, after a share of 0.75 \(average_from\); train",
        ),
        ({"average": "swa", "average_from": 0.96}, "got 1 of 25"),
        ({"average": "swa", "average_from": 0.0, "epochs": 1}, "got 1 of 1"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainingConfig(**wrong)  # type: ignore[arg-type]
