"""The bilevel loop: what each level moves, stages, continuing, and the paths of E2RNAS."""

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import same
from torch import Tensor

from evonas.data import Augmentation, DevicePart
from evonas.errors import ConfigurationError
from evonas.gradient import (
    CrossEntropy,
    DeliveredCost,
    ExpectedCost,
    FixedShares,
    FixedWeights,
    GradientSearch,
    Method,
    Mgda,
    SearchData,
    darts,
    derive_genotype,
    e2rnas_v1,
    e2rnas_v2,
    halves,
    pcdarts,
    pdarts,
)
from evonas.gradient.levels import shares
from evonas.gradient.search import _without_weakest_skip
from evonas.networks.darts_operations import PRIMITIVES

CPU = torch.device("cpu")


def images(n: int, seed: int) -> DevicePart:
    drawn = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 8, 8, 3), generator=drawn, dtype=torch.uint8)
    return DevicePart.of(pixels, torch.arange(n) % 3)


def data() -> SearchData:
    below, above = halves(images(24, 0), 0.5)
    return SearchData(below, above, images(16, 1), Augmentation(padding=1), 3, ((0.5,) * 3, (0.25,) * 3))


def tiny(method: Method, **config: Any) -> Method:
    """Two nodes, a few channels, two epochs of one step a stage."""
    channels = 4 * method.partial
    stages = tuple(
        replace(stage, epochs=2, weights_only=min(stage.weights_only, 1), channels=channels, layers=3)
        for stage in method.stages
    )
    changed = {"search_batch_size": 12, "alpha_lr": 0.05, **config}
    return replace(method, stages=stages, nodes=2, config=replace(method.config, **changed))


def searching(method: Method, seed: int = 0) -> GradientSearch:
    return GradientSearch(method, data(), seed, CPU)


def run(search: GradientSearch) -> list[dict[str, Any]]:
    rows = []
    while not search.done:
        rows.append(search.run_epoch())
    return rows


SIZE = DeliveredCost(limit=0.03, channels=8, layers=5, nodes=2, n_classes=3, image_size=8, within=0.05)

METHODS = {
    "darts": tiny(darts()),
    "darts, second order": tiny(darts(2)),
    "darts, exact": tiny(darts(2), hessian="exact"),
    "pcdarts": tiny(pcdarts()),
    "pdarts": tiny(pdarts()),
    "e2rnas v1": e2rnas_v1(tiny(darts(2), begin_with="weights")),
    "e2rnas v2": e2rnas_v2(tiny(darts(2), begin_with="weights")),
    "e2rnas v2 on pdarts": e2rnas_v2(tiny(pdarts(), begin_with="weights")),
    "e2rnas v2 on pcdarts": e2rnas_v2(tiny(pcdarts()), combine=FixedWeights()),
    "e2rnas v1 of a size, on pcdarts": e2rnas_v1(tiny(pcdarts()), sizes=(SIZE,)),
    "e2rnas v2 of a size, on pdarts": e2rnas_v2(tiny(pdarts()), sizes=(SIZE,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_continued_from_any_epoch_it_is_the_same_bit_for_bit(name: str) -> None:
    whole, rows = searching(METHODS[name]), []
    for _ in range(METHODS[name].epochs):
        state = io.BytesIO()
        torch.save(whole.state(), state)
        state.seek(0)
        continued = searching(METHODS[name], seed=0)
        continued.restore(torch.load(state, weights_only=True))
        rows.append(whole.run_epoch())
        assert continued.run_epoch() == rows[-1]
        assert same(continued.state(), whole.state())
    assert whole.done
    assert continued.genotype == whole.genotype
    assert searching(METHODS[name], seed=1).run_epoch() != rows[0]


@pytest.mark.slow
def test_rows_of_a_search() -> None:
    method = METHODS["e2rnas v2"]
    rows = run(searching(method))
    names = ["loss", "ood_loss", "adversarial_loss", "params_loss", "flops_loss"]
    assert [*rows[0]] == [
        "learning_rate",
        "train_loss",
        *(f"{kind}_{name}" for name in names for kind in ("upper", "weight")),
        *(f"share_{name}" for name in names),
    ]
    assert rows[0]["learning_rate"] == 0.025
    assert rows[1]["learning_rate"] == pytest.approx((0.025 + 0.001) / 2)
    for row in rows:
        assert sum(row[f"share_{name}"] for name in names) == pytest.approx(1)


@pytest.mark.lengthy
def test_a_search_of_a_size_delivers_it() -> None:
    """Its rows tell the three networks apart; the derived cells stay what the rule makes of the architecture."""
    search = searching(METHODS["e2rnas v1 of a size, on pcdarts"])
    rows = run(search)
    for row in rows:
        assert abs(row["delivered_size"] - SIZE.limit) <= SIZE.within * SIZE.limit
    assert search.derived == derive_genotype(*search.levels.architecture.scores())
    assert rows[-1]["derived_size"] == SIZE.of(search.derived)
    assert rows[-1]["delivered_size"] == SIZE.of(search.genotype)
    assert SIZE.sizes[0] < rows[-1]["expected_size"] < SIZE.sizes[1]
    assert searching(METHODS["pcdarts"]).sizes(1.0) == [{}]


@pytest.mark.lengthy
def test_a_search_of_multiply_adds_delivers_them() -> None:
    """Within 2% of F, where the derived cells are not."""
    flops = replace(SIZE, kind="macs", limit=0.4, within=0.02)
    search = searching(e2rnas_v2(tiny(darts()), sizes=(flops,)))
    rows = run(search)
    for row in rows:
        assert abs(row["delivered_macs"] - 0.4) <= 0.02 * 0.4
    assert abs(rows[-1]["derived_macs"] - 0.4) > 0.02 * 0.4
    assert rows[-1]["delivered_macs"] == flops.of(search.genotype)
    assert "delivered_size" not in rows[-1]


@pytest.mark.lengthy
def test_the_size_alone_pulls_the_derived_network_to_its_limit() -> None:
    """Steps of the architecture from one beginning to a small and to a large network; temperatures fall."""
    ends = []
    for limit in (0.015, 0.042):
        size = replace(SIZE, limit=limit, within=0.5)
        method = e2rnas_v1(tiny(darts()), adversarial=False, validate=False, sizes=(size,))
        stage = replace(method.stages[0], epochs=15)
        search = searching(replace(method, stages=(stage,)))
        rows = run(search)
        assert abs(rows[-1]["expected_size"] - limit) < 0.1 * limit
        ends.append(rows[-1]["derived_size"])
    assert ends[0] < 0.02 < 0.037 < ends[1]


def test_shares_are_those_of_the_lengths_of_weighted_gradients() -> None:
    """Lengths 5, 12 and 0, weighted 3, 1 and 7: 15 and 12 of 27."""
    gradients = torch.tensor([[3.0, 4.0], [0.0, 12.0], [0.0, 0.0]])
    losses = [ExpectedCost(kind=kind) for kind in ("params", "flops")]
    found = shares([CrossEntropy(), *losses], torch.tensor([3.0, 1.0, 7.0])[:, None] * gradients)
    assert [*found] == ["share_loss", "share_params_loss", "share_flops_loss"]
    assert [float(share) for share in found.values()] == pytest.approx([15 / 27, 12 / 27, 0.0])
    assert shares(losses, torch.zeros(2, 3)) == {"share_params_loss": 0.0, "share_flops_loss": 0.0}


def test_constant_shares_do_not_depend_on_lengths() -> None:
    """(3, 4) and (0, 12) with a quarter and the rest: weights 1/20 and 1/16; a zero gradient takes no weight away."""
    gradients = torch.tensor([[3.0, 4.0], [0.0, 12.0]])
    combine = FixedShares((0.25, 0.75))
    assert combine(gradients, torch.ones(2)).tolist() == pytest.approx([1 / 20, 1 / 16])
    assert combine(1e6 * gradients, torch.ones(2)).tolist() == pytest.approx([1e-6 / 20, 1e-6 / 16])
    assert (combine(0 * gradients, torch.ones(2))[:, None] * 0 * gradients).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ConfigurationError, match="expected 3 shares, one for each upper loss"):
        combine(torch.ones(3, 2), torch.ones(3))


@pytest.mark.lengthy
def test_F_in_millions_is_nearly_all_of_the_step_only_where_weights_are_applied_to_raw_losses() -> None:
    """The authors' mode; with weights applied to the gradients that they were found for, no objective is drowned."""
    base = tiny(darts(), begin_with="weights")
    raw = Mgda(normalisation="l2", solver="frank_wolfe", applied_to="raw")
    (authors, *_), (default, *_) = (
        run(searching(method)) for method in (e2rnas_v2(base, combine=raw), e2rnas_v2(base))
    )
    costs = ("share_params_loss", "share_flops_loss")
    others = ("share_loss", "share_ood_loss", "share_adversarial_loss")
    assert sum(authors[name] for name in costs) > 0.95
    assert sum(default[name] for name in others) > 0.3
    assert max(default[name] for name in (*costs, *others)) < 0.95


@pytest.mark.lengthy
def test_epochs_of_weights_alone_leave_the_architecture_alone() -> None:
    search = searching(METHODS["pcdarts"])
    before = [parameter.clone() for parameter in search.levels.architecture.parameters()]
    row = search.run_epoch()
    assert all(map(torch.equal, before, search.levels.architecture.parameters()))
    assert "upper_loss" not in row
    search.run_epoch()
    assert not any(map(torch.equal, before, search.levels.architecture.parameters()))


@pytest.mark.lengthy
def test_stages_keep_the_strongest_operations() -> None:
    method = METHODS["pdarts"]
    search = searching(method)
    for stage, following in zip(method.stages, method.stages[1:], strict=False):
        for _ in range(stage.epochs):
            last = search
            last.run_epoch()
        kept = search.levels.supernet.plan.edge_operations
        strongest = search.history[-1].topk(following.keep, dim=2).indices.sort(dim=2).values
        assert [[list(edge) for edge in cell] for cell in kept] == strongest.tolist()
        probabilities = search.probabilities()
        assert bool(((probabilities > 0).sum(dim=2) == following.keep).all())


def test_skips_beyond_the_most_are_replaced_from_the_weakest() -> None:
    """Node 2 reads both inputs, node 3 two of three: skips everywhere but for what comes next, sep_conv_3x3."""
    skip, sep = PRIMITIVES.index("skip_connect"), PRIMITIVES.index("sep_conv_3x3")
    alpha = torch.zeros(5, 8, dtype=torch.float64)
    alpha[:, skip] = torch.tensor([4.0, 3.0, 5.0, 6.0, -9.0])
    alpha[:, sep] = 1.0
    found = derive_genotype(alpha, alpha)
    assert [operation for operation, _ in found.normal] == ["skip_connect"] * 4
    changed = _without_weakest_skip(alpha, found)
    again = derive_genotype(changed, alpha)
    assert again.normal == (("skip_connect", 0), ("sep_conv_3x3", 1), ("skip_connect", 1), ("skip_connect", 0))
    left = [index for index in range(1, 8) if index != skip]
    torch.testing.assert_close(changed.softmax(1)[:, left], alpha.softmax(1)[:, left])  # nothing else is touched


def test_at_most_two_skips_stay_in_the_normal_cell() -> None:
    search = searching(replace(METHODS["pdarts"], max_skips=1))
    with torch.no_grad():
        search.levels.architecture.alpha_normal[:, PRIMITIVES.index("skip_connect")] = 3.0
        search.levels.architecture.alpha_reduce[:, PRIMITIVES.index("skip_connect")] = 3.0
    found = search.genotype
    assert sum(operation == "skip_connect" for operation, _ in found.normal) == 1
    assert sum(operation == "skip_connect" for operation, _ in found.reduce) == 4


def path(method: Method) -> Tensor:
    search = searching(method)
    run(search)
    return torch.stack(search.history)


@pytest.mark.slow
def test_below_its_limit_the_count_of_parameters_changes_nothing() -> None:
    """E2RNAS v1: the path of the validation loss alone, bit for bit; above the limit it is another one."""
    base = tiny(darts(2), begin_with="weights")
    alone = path(e2rnas_v1(base, count_params=False))
    assert torch.equal(path(e2rnas_v1(base, limit=100.0)), alone)
    assert not torch.equal(path(e2rnas_v1(base, limit=0.0)), alone)


@pytest.mark.lengthy
@pytest.mark.parametrize("limit", [0.0, pytest.param(100.0, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_expected_parameters_move_toward_their_limit(limit: float) -> None:
    """E2RNAS v2, from both sides; and v1 from above."""
    base = tiny(darts(2), begin_with="weights")
    methods = [e2rnas_v2(base, limit=limit, flops_limit=1e4 * limit)]
    methods += [e2rnas_v1(base, limit=limit)] if limit == 0 else []
    for method in methods:
        steps = path(method).double()
        first, last = (float(ExpectedCost(nodes=2).expected(step)) for step in (steps[0], steps[-1]))
        assert abs(last - limit) < abs(first - limit)


def test_a_method_that_needs_other_images_says_so() -> None:
    without = replace(data(), ood_data=None)
    with pytest.raises(ConfigurationError, match="expected images of none of the classes for e2rnas-v2, got none"):
        GradientSearch(METHODS["e2rnas v2"], without, 0, CPU)


def test_halves_are_cut_by_index() -> None:
    below, above = halves(images(10, 0), 0.55)
    assert (len(below), len(above)) == (5, 5)
    assert torch.equal(torch.cat([below.images, above.images]), images(10, 0).images)


@pytest.mark.lengthy
def test_running_statistics_are_those_of_the_training_alone() -> None:
    """The architecture's step and attacks leave no trace in them."""
    search = searching(e2rnas_v2(tiny(darts(2))))
    below, above = next(search.batches())
    search.levels.begin_epoch(0.1, 0.0, torch.Generator().manual_seed(0))
    kept = {name: value.clone() for name, value in search.levels.supernet.state_dict().items()}
    search.levels.upper_gradients(below, above)
    assert same(kept, dict(search.levels.supernet.state_dict()))
