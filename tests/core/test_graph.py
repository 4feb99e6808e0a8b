# SPDX-License-Identifier: Apache-2.0
"""In which order the resources of a plan are taken, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError
from seawall.core.graph import order


def resource(id: str, *needs: str, type: str = "directory") -> dict[str, Any]:
    wanted = [{"type": type, "id": one} for one in needs]
    return {"type": type, "id": id, "name": id, "extra_info": {"depends_on": wanted}}


def test_without_dependencies_the_order_is_as_given() -> None:
    assert order([{"type": "directory", "id": id} for id in "cab"]) == [0, 1, 2]


def test_dependencies_come_first() -> None:
    assert order([resource("a", "c"), resource("b", "a"), resource("c")]) == [2, 0, 1]


def test_no_resources_have_no_order() -> None:
    assert order([]) == []


def test_the_same_id_of_two_types_is_two_resources() -> None:
    assert order([resource("x"), resource("x", type="sqlite")]) == [0, 1]


def test_the_same_resource_twice_is_refused_and_both_places_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        order([resource("a"), resource("b"), resource("a")])
    assert caught.value.fields[0].field == "resources[2]"
    assert "resources[0]" in str(caught.value)


def test_a_circle_is_refused_and_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        order([resource("a", "b"), resource("b", "c"), resource("c", "a"), resource("d")])
    named = str(caught.value.fields[0].value)
    assert {"a", "b", "c"} == set(named.split(" -> "))


def test_one_that_depends_on_itself_is_a_circle() -> None:
    with pytest.raises(InvalidInputError) as caught:
        order([resource("a", "a")])
    assert "a -> a" in str(caught.value)


@pytest.mark.parametrize(
    "wanted", [{"type": "directory", "id": "gone"}, {"id": "a"}, "a", {"type": "sqlite"}]
)
def test_an_unknown_or_nameless_dependency_is_refused_with_its_place(wanted: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        order([resource("a"), {"type": "directory", "id": "b", "extra_info": {"depends_on": [wanted]}}])
    assert caught.value.fields[0].field == "resources[1].extra_info.depends_on"


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(
    st.integers(0, n - 1), st.integers(0, n - 1))))))  # fmt: skip
def test_an_order_keeps_every_dependency_or_there_is_a_circle(
    drawn: tuple[int, set[tuple[int, int]]],
) -> None:
    count, edges = drawn
    needs: dict[int, set[int]] = {number: {to for of, to in edges if of == number} for number in range(count)}
    resources = [
        resource(str(number), *(str(one) for one in sorted(needs[number]))) for number in range(count)
    ]
    reachable = {number: set(needs[number]) for number in range(count)}
    for _ in range(count):
        for number in range(count):
            for one in tuple(reachable[number]):
                reachable[number] |= needs[one]
    if any(number in reachable[number] for number in range(count)):
        with pytest.raises(InvalidInputError):
            order(resources)
        return
    found = order(resources)
    assert sorted(found) == list(range(count))
    assert all(found.index(to) < found.index(of) for of, to in edges)
