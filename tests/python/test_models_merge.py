"""How declared rules combine concurrent writes."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest

from flujo import merge


@pytest.mark.parametrize(
    ("rule", "base", "values", "expected"),
    [
        (merge.Sum(), 0, [1, 1], 2),
        (merge.Sum(), 10, [11, 8], 9),
        (merge.Sum(), Decimal("0.1"), [Decimal("0.3")], Decimal("0.3")),
        (merge.Sum(), None, [2, 3], 5),
        (merge.Max(), 5, [3, 9, 7], 9),
        (merge.Max(), 5, [3], 5),
        (merge.Max(), None, [None, 2], 2),
        (merge.Min(), 5, [3, 9], 3),
        (merge.Min(), None, [None], None),
        (merge.Union(), {1}, [{1, 2}, {1, 3}], {1, 2, 3}),
        (merge.Union(), frozenset({1}), [frozenset({2})], frozenset({1, 2})),
        (merge.Union(), {"a": 1}, [{"a": 1, "b": 2}, {"a": 1, "c": 3}], {"a": 1, "b": 2, "c": 3}),
        (merge.Union(), {"a": 1}, [{"a": 2}, {"a": 1, "c": 3}], {"a": 2, "c": 3}),
        (merge.Union(), {"a": 1}, [{"a": 2}, {"a": 3}], {"a": 3}),
        (merge.Union(), [1], [[1, 2], [1, 3, 2]], [1, 2, 3]),
        (merge.Union(), None, [{1}, {2}], {1, 2}),
        (merge.Append(), [1], [[1, 2], [1, 3, 4]], [1, 2, 3, 4]),
        (merge.Append(), (1,), [(1, 2)], (1, 2)),
        (merge.Append(), "a", ["ab", "ac"], "abc"),
        (merge.Append(), None, [[1], [2]], [1, 2]),
        (merge.First(), 0, [1, 2], 1),
        (merge.Last(), 0, [1, 2], 2),
    ],
)
def test_a_rule_combines_and_leaves_its_arguments_alone(
    rule: Any, base: Any, values: list[Any], expected: Any
) -> None:
    before = copy.deepcopy((base, values))
    combined = rule.combine(base, values)
    assert combined == expected
    assert type(combined) is type(expected)
    assert (base, values) == before


def test_append_refuses_a_branch_that_changed_what_was_there() -> None:
    with pytest.raises(ValueError, match="may only append"):
        merge.Append().combine([1, 2], [[1]])


def test_union_refuses_what_has_no_union() -> None:
    with pytest.raises(ValueError, match="not int, int"):
        merge.Union().combine(1, [2])


def test_rules_are_values_that_annotations_can_share() -> None:
    assert merge.Sum() == merge.Sum() != merge.Max()
    assert isinstance(merge.Sum(), merge.MergeRule)
