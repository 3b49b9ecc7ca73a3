"""What many prompts begin with is read once, and that changes no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splinellm import SplineExtractor
from splinellm.backbone import shared_prefix
from splinellm.backbone.recorder import Recorder
from splinellm.errors import NonFiniteFeaturesError
from splinellm.extraction import reading, sharing
from splinellm.extraction.sharing import MIN_SHARED_TOKENS, Group, group_by_beginning
from splinellm.schema import DISTANCE_FEATURES, PAPER_FEATURES
from tests.architectures import CASES, case_backbone
from tests.tiny import WINDOW, random_prompts, tiny_backbone

pytestmark = pytest.mark.filterwarnings("ignore::splinellm.extraction.PrecisionWarning")


@st.composite
def families(draw: st.DrawFn) -> list[list[int]]:
    """Prompts with common beginnings, some of them nested, some prompts equal to a beginning."""
    seeds = st.integers(0, 3)
    prompts = []
    for _ in range(draw(st.integers(1, 12))):
        first = random_prompts(draw(st.sampled_from([1, 31, 40, 80])), seed=draw(seeds))[0]
        second = random_prompts(60, seed=draw(seeds))[0][: draw(st.sampled_from([0, 1, 33, 60]))]
        own = draw(st.lists(st.integers(0, 5), max_size=5))
        prompts.append([*first, *second, *own])
    return prompts


@given(families())
@settings(max_examples=150, deadline=None)
def test_groups_are_sound(prompts: list[list[int]]) -> None:
    groups = group_by_beginning(prompts)
    assert sorted(i for group in groups for i in group.members) == list(range(len(prompts)))
    for group in groups:
        beginnings = {tuple(prompts[i][: group.n_shared]) for i in group.members}
        assert len(beginnings) == 1
        assert all(len(prompts[i]) > group.n_shared for i in group.members)
        if group.n_shared:
            assert group.n_shared >= MIN_SHARED_TOKENS
            saved = (len(group.members) - 1) * group.n_shared
            assert saved >= sharing.MIN_SAVING * sum(len(prompts[i]) for i in group.members)


def test_a_template_is_found_among_others() -> None:
    (template,) = random_prompts(100, seed=1)
    (other,) = random_prompts(50, seed=2)
    of_template = [[*template, i, 7, 7] for i in range(20)]
    of_other = [[*other, i, *range(20)] for i in range(5)]
    prompts = [*of_template[:10], *random_prompts(60, 5, 200), *of_other, *of_template[10:]]
    groups = {group.n_shared: set(group.members) for group in group_by_beginning(prompts)}
    assert groups == {
        100: {*range(10), *range(18, 28)},
        50: {*range(13, 18)},
        0: {10, 11, 12},
    }


@pytest.mark.parametrize(
    "prompts",
    [
        [],
        [[1]],
        random_prompts(200, 100, 50, 1),
        [[*random_prompts(MIN_SHARED_TOKENS - 1)[0], i] for i in range(2, 9)],  # too short
        [[*random_prompts(40)[0], *random_prompts(300, seed=i)[0]] for i in range(2, 4)],  # 12 %
    ],
    ids=["none", "one", "nothing shared", "little shared", "little saved"],
)
def test_nothing_is_grouped_where_it_does_not_pay(prompts: list[list[int]]) -> None:
    everyone = [*range(len(prompts))]
    assert group_by_beginning(prompts) == ([Group(everyone, 0)] if prompts else [])


def test_a_prompt_that_is_the_beginning_of_others_keeps_a_token_of_its_own() -> None:
    (template,) = random_prompts(64)
    (group,) = group_by_beginning([template, [*template, 5], [*template, 6, 7]])
    assert group.n_shared == 63


def family(n_shared: int = 40, *lengths: int, seed: int = 0) -> list[list[int]]:
    """Prompts of one beginning and ends of their own."""
    (template,) = random_prompts(n_shared, seed=seed)
    return [[*template, *end] for end in random_prompts(*lengths, seed=seed + 1)]


PROMPTS = [
    *family(40, 1, 2, WINDOW - 1, 9, 30),
    *random_prompts(1, 50, seed=4),
    *family(70, 3, 12, 1, seed=6),
]


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch sharing off."""
    monkeypatch.setattr(sharing, "MIN_SHARED_TOKENS", 10**6)


def beginnings_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills with the lengths of beginnings that are read."""
    lengths: list[int] = []
    read = Recorder.read_beginning

    def noted(self: Recorder, input_ids: Tensor) -> Any:
        lengths.append(input_ids.shape[1])
        return read(self, input_ids)

    monkeypatch.setattr(Recorder, "read_beginning", noted)
    return lengths


def check_close(found: np.ndarray, expected: np.ndarray, names: tuple[str, ...]) -> None:
    """Compare arrays (N, L, F) within what another order of additions may do."""
    distances = [i for i, name in enumerate(names) if name in DISTANCE_FEATURES]
    others = [i for i in range(len(names)) if i not in distances]
    np.testing.assert_allclose(found[..., others], expected[..., others], rtol=0, atol=2e-6)
    np.testing.assert_allclose(
        found[..., distances], expected[..., distances], rtol=2e-3, atol=5e-6
    )


@pytest.mark.parametrize("batch_tokens", [8, 512])
@pytest.mark.parametrize("name", CASES)
def test_sharing_changes_no_number(
    name: str, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = "paper,blocks" if CASES[name].has_dimension else "spline,blocks"
    extractor = SplineExtractor(case_backbone(name), features=features, batch_tokens=batch_tokens)
    lengths = beginnings_read(monkeypatch)
    found = extractor.extract(PROMPTS)
    shared = [] if CASES[name].encoder else [40, 70]  # what comes later changes a beginning
    assert sorted(lengths) == shared
    never(monkeypatch)
    expected = extractor.extract(PROMPTS)
    assert sorted(lengths) == shared
    assert found.n_tokens.tolist() == [len(prompt) for prompt in PROMPTS]
    check_close(found.array, expected.array, found.schema.features)


@pytest.mark.parametrize(
    "features", ["sign_mean", "blocks:7", "distance_std", "intrinsic_dimension"]
)
@pytest.mark.parametrize("layers", ["0", "1-2"])
def test_any_features_and_layers(
    features: str, layers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = SplineExtractor(tiny_backbone("mistral"), features=features, layers=layers)
    found = extractor.extract(PROMPTS)
    never(monkeypatch)
    expected = extractor.extract(PROMPTS)
    check_close(found.array, expected.array, found.schema.features)


def test_each_token_of_a_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    n_read: list[int] = []
    backbone.model.layers[0].register_forward_pre_hook(
        lambda _module, args: n_read.append(args[0].shape[:2].numel())
    )
    prompts = family(100, *[4] * 30)
    SplineExtractor(backbone).extract(prompts)
    assert sum(n_read) == 100 + 30 * 4
    n_read.clear()
    never(monkeypatch)
    SplineExtractor(backbone).extract(prompts)
    assert sum(n_read) == 30 * 104


def test_copies_of_shared_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # 512 ends of one token would be a batch, and 512 copies of a long beginning's keys.
    shapes: list[tuple[int, ...]] = []
    joined = shared_prefix._joined

    def noted(shared: Tensor, own: Tensor) -> Tensor:
        made = joined(shared, own)
        shapes.append(tuple(made.shape))
        return made

    monkeypatch.setattr(shared_prefix, "_joined", noted)
    (template,) = random_prompts(200)
    prompts = [[*template, i] for i in range(300)]
    SplineExtractor(tiny_backbone(), features="sign_mean", batch_tokens=64).extract(prompts)
    assert len(shapes) > 10
    assert max(shape[0] * shape[2] for shape in shapes) <= reading._KEYS_PER_TOKEN * 64


def test_beginning_that_does_not_fit_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = SplineExtractor(tiny_backbone())
    expected = extractor.extract(PROMPTS)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Recorder, "read_beginning", fail)
    found = extractor.extract(PROMPTS)
    check_close(found.array, expected.array, PAPER_FEATURES)


def test_memory_that_runs_out_behind_a_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = SplineExtractor(tiny_backbone())
    expected = extractor.extract(PROMPTS)
    read = Recorder.read

    def limited(self: Recorder, input_ids: Tensor, lengths: Tensor, **more: Any) -> Tensor:
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError
        return read(self, input_ids, lengths, **more)

    monkeypatch.setattr(Recorder, "read", limited)
    found = extractor.extract(PROMPTS)
    check_close(found.array, expected.array, PAPER_FEATURES)


POISON = 3  # no random prompt holds it


@pytest.mark.parametrize("features", ["paper", "blocks", "sign_mean", "intrinsic_dimension"])
@pytest.mark.parametrize("place", ["beginning", "end"])
def test_overflow_fails_those_who_share_it(place: str, features: str) -> None:
    backbone = tiny_backbone()
    extractor = SplineExtractor(backbone, features=features)
    prompts = family(40, 2, 3, 4)
    expected = extractor.extract(random_prompts(9, 50, seed=8))
    with torch.no_grad():
        backbone.model.embed_tokens.weight[POISON] = torch.inf
    for prompt in prompts if place == "beginning" else prompts[1:2]:
        prompt[20 if place == "beginning" else 41] = POISON
    table, errors = extractor.extract_valid([*prompts, *random_prompts(9, 50, seed=8)])
    assert sorted(errors) == ([0, 1, 2] if place == "beginning" else [1])
    assert all(isinstance(error, NonFiniteFeaturesError) for error in errors.values())
    np.testing.assert_allclose(table.values[-2:], expected.values, atol=2e-6)


def test_overflow_of_the_last_layer_in_a_beginning_alone() -> None:
    # No later layer carries it to the tokens behind: only the beginning itself can tell.
    backbone = tiny_backbone()
    mlp = backbone.model.layers[2].mlp

    def spoil(_module: object, args: tuple[Tensor]) -> tuple[Tensor]:
        hidden = args[0].clone()
        if hidden.shape[1] >= 40:
            hidden[:, 20] = torch.nan
        return (hidden,)

    mlp.register_forward_pre_hook(spoil)
    for features in ("blocks", "paper"):
        _, errors = SplineExtractor(backbone, features=features).extract_valid(family(40, 2, 3, 4))
        assert sorted(errors) == [0, 1, 2]
