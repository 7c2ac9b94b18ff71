"""The names that scripts rely on."""

import inspect as python_inspect
import subprocess
import sys

import pytest

import easyep
from easyep import recipe


def test_every_public_name_is_there():
    assert sorted(easyep._HOME) == sorted(easyep.__all__)
    for name in easyep.__all__:
        assert getattr(easyep, name) is not None
        assert name in dir(easyep)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = easyep.no_such_name


def test_public_functions_say_what_they_do():
    for name in easyep.__all__:
        assert python_inspect.getdoc(getattr(easyep, name)), name


def test_observe_has_the_defaults_of_the_recipe():
    parameters = python_inspect.signature(easyep.observe).parameters
    for field in recipe.Recipe.__dataclass_fields__.values():
        if field.name in parameters and field.name not in ("model", "domain", "demos"):
            assert parameters[field.name].default == field.default


def test_importing_easyep_imports_next_to_nothing():
    program = "import sys, easyep; print(*{'numpy', 'click', 'torch'} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
