"""The catalogue of solved cases itself: no case lies outside it, none is in it twice, and tags mean something."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from reference import catalogue, mlp


def cases_in(value: Any) -> Iterator[Any]:
    if isinstance(value, catalogue.KINDS):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from cases_in(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from cases_in(inner)


CASES = [case for group in catalogue.GROUPS.values() for case in group]


@pytest.mark.parametrize("module", catalogue.MODULES, ids=lambda module: module.__name__)
def test_every_case_of_a_module_is_in_exactly_one_group(module: Any) -> None:
    own = [value for name, value in vars(module).items() if not name.startswith("__")]
    written = {id(case): case for value in own for case in cases_in(value)}
    assert written
    for case in written.values():
        homes = [name for name, group in catalogue.GROUPS.items() if any(case is other for other in group)]
        assert len(homes) == 1, (case.slug, homes)


def test_slugs_are_unique_and_readable() -> None:
    slugs = [case.slug for case in CASES]
    assert sorted(set(slugs)) == sorted(slugs)
    assert all(slug and " " not in slug and slug.isascii() for slug in slugs)


def test_every_case_says_where_its_values_come_from() -> None:
    assert all(case.source for case in CASES)


def test_tags_are_known_used_and_say_which_side_a_case_is_on() -> None:
    tagged = [case for group in mlp.GROUPS.values() for case in group]
    assert frozenset().union(*(case.tags for case in tagged)) == mlp.TAGS
    for case in tagged:
        assert len(case.tags & {"limit", "finite", "one layer"}) == 1, case.slug
        assert ("finite" in case.tags) == (case.width is not None), case.slug


def test_independent_digits_belong_to_a_case() -> None:
    for slug, name in mlp.QUOTED_DIGITS:
        assert name in mlp.BY_SLUG[slug].exact
