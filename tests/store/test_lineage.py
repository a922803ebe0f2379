"""Lineage: everything that was made from something, however far."""

import itertools

from slipway.store.lineage import Edge
from slipway.store.store import Store


def test_copies_of_copies_are_found_once_and_circles_end(store: Store) -> None:
    chain = [("trace", "t"), ("dataset", "d@1"), ("evaluation", "e"), ("evidence", "v")]
    for parent, child in itertools.pairwise(chain):
        store.lineage.add(child=child, parent=parent, transform="made")
        store.lineage.add(child=child, parent=parent, transform="made")
    store.lineage.add(child=("trace", "t"), parent=("evidence", "v"), transform="circle")
    store.lineage.add(child=("dataset", "other@1"), parent=("trace", "other"))
    down = store.lineage.descendants([("trace", "t")])
    assert [edge.child for edge in down] == [*chain[1:], chain[0]]
    up = store.lineage.ancestors([("evaluation", "e")])
    assert [edge.parent for edge in up][:2] == [("dataset", "d@1"), ("trace", "t")]
    assert store.lineage.descendants([("trace", "unknown")]) == []


def test_thousands_of_roots(store: Store) -> None:
    edges = [Edge(("finding", f"f{n}"), ("trace", f"t{n}"), "") for n in range(1500)]
    store.lineage.add_all(edges)
    assert len(store.lineage.descendants([("trace", f"t{n}") for n in range(1500)])) == 1500


def test_projects_have_their_own_edges(store: Store) -> None:
    store.lineage.add(child=("a", "1"), parent=("b", "1"))
    assert store.of(f"{store.project}-x").lineage.descendants([("b", "1")]) == []


def test_edges_of_a_thing_can_be_forgotten(store: Store) -> None:
    store.lineage.add(child=("a", "1"), parent=("b", "1"))
    store.lineage.forget(("b", "1"))
    assert store.lineage.descendants([("b", "1")]) == []
