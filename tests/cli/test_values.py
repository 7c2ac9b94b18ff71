"""What options take."""

import subprocess
import sys

import click
import pytest

from easyep.cli.values import Number


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "x"])
def test_a_number_is_finite_and_within_its_bounds(value):
    with pytest.raises(click.BadParameter):
        Number(min=0).convert(value, None, None)
    assert Number(min=0).convert("0.5", None, None) == 0.5


def test_a_closed_standard_error_is_no_standard_output(tmp_path):
    """Sentences and errors go nowhere then; the command does what it does."""
    command = [sys.executable, "-m", "easyep", "inspect", "no-such-model", "--json"]
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    done = subprocess.run([*closed, *command], stdout=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stdout) == (1, b"")
    command = [sys.executable, "-m", "easyep", "verify", "no-such-folder"]
    done = subprocess.run([*closed, *command], stdout=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stdout) == (1, b"")
