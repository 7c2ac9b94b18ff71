"""Mutation testing changes what it says, and nothing else."""

import sys
from pathlib import Path

import pytest

FUNCTION = '''
def plain(values, limit=3):
    """Left alone: 1 < 2."""
    if not values:
        raise ValueError(f"no values {1 + 1}")
    found = [each for each in values if each < limit and each]
    assert list(zip(found, found, strict=True))
    found.sort(reverse=True)
    return max(found)


class Thing:
    def method(self):
        def inner():
            """Left alone too."""
            return False

        return "a"
'''


@pytest.fixture
def mutants(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    import mutants

    yield mutants
    del sys.modules["mutants"]


def changes(mutants, path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in mutants.mutants(path):
        found.setdefault(each.function, []).append(each.what)
    return found


def test_each_place_is_changed_once(mutants, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(FUNCTION)
    assert changes(mutants, path) == {
        "plain": [
            "not values -> values",
            "raise ValueError(f'no values {1 + 1}') -> pass",
            "each < limit and each -> each < limit or each",
            "each < limit -> each <= limit",
            "found.sort(reverse=True) -> pass",
            "found.sort(reverse=True) -> found.sort()",
            "True -> False",
            "return max(found) -> return None",
            "max -> min",
        ],
        "Thing.method": ["False -> True", "return 'a' -> return None", "'a' -> 'XXaXX'"],
    }


def test_a_function_becomes_its_mutant(mutants, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(FUNCTION)
    module: dict = {}
    exec(compile(FUNCTION, str(path), "exec"), module)
    plain = module["plain"]
    answers = {}
    for each in mutants.mutants(path):
        if each.function == "plain" and "raise" not in each.what and "not" not in each.what:
            plain.__code__ = each.code
            answers[each.what] = plain([0, 1, 2, 3, 2])
    assert answers == {
        "each < limit and each -> each < limit or each": 3,
        "each < limit -> each <= limit": 3,
        "found.sort(reverse=True) -> pass": 2,
        "found.sort(reverse=True) -> found.sort()": 2,
        "True -> False": 2,
        "return max(found) -> return None": None,
        "max -> min": 1,
    }


def test_the_rooms_have_files_and_tests(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    import rooms

    for room, patterns in rooms.SOURCES.items():
        assert all(list(root.glob(pattern)) for pattern in patterns), room
        assert all((root / path).exists() for path in rooms.TESTS[room]), room
    del sys.modules["rooms"]
