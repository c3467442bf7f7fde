"""List of the photographs for training and evaluation: no photograph is used for both."""

import tomllib
from collections import Counter

import pytest
from photographs import LISTING, PACKAGED, local_name

PACKAGES = tomllib.loads(LISTING.read_text())


def test_no_file_is_in_two_sets_or_twice_in_one() -> None:
    digests = Counter(
        digest for packages in PACKAGES.values() for package in packages for digest in package["files"].values()
    )
    assert [digest for digest, count in digests.items() if count > 1] == []


def test_every_set_can_be_fetched() -> None:
    assert sorted(PACKAGES) == sorted(PACKAGED)


@pytest.mark.parametrize("kind", PACKAGED)
def test_no_file_of_a_set_takes_the_place_of_another(kind: str) -> None:
    names = Counter(local_name(package, name) for package in PACKAGES[kind] for name in package["files"])
    assert [name for name, count in names.items() if count > 1] == []


def test_the_last_evaluation_has_enough_photographs() -> None:
    assert sum(len(package["files"]) for package in PACKAGES["last"]) >= 90
    assert len(packages_of("last")) >= 25


@pytest.mark.parametrize("kind", [kind for kind in PACKAGED if kind != "last"])
def test_a_package_of_the_last_evaluation_is_in_no_other_set(kind: str) -> None:
    assert packages_of("last") & packages_of(kind) == set()


def packages_of(kind: str) -> set[tuple[str, str]]:
    """Return source and name of each package in a set."""
    return {(package["source"], package["package"].lower()) for package in PACKAGES[kind]}
