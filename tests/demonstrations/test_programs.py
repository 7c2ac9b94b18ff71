"""Programs, run apart."""

import time
from pathlib import Path

import pytest

from easyep.demonstrations import programs
from easyep.errors import DemosError, UnknownNameError

HELLO = {
    "python": "print(input())",
    "javascript": "console.log(require('fs').readFileSync(0, 'utf8').trim())",
    "bash": "cat",
    "c": '#include <stdio.h>\nint main(void) { char s[9]; scanf("%8s", s); puts(s); }',
    "c++": "#include <iostream>\nint main() { std::string s; std::cin >> s; std::cout << s; }",
    "rust": "use std::io;fn main(){let mut s=String::new();io::stdin().read_line(&mut s).unwrap();"
    "print!(\"{s}\")}",
    "sql": "SELECT 'hello';",
}  # fmt: skip


@pytest.mark.parametrize("language", programs.LANGUAGES)
def test_every_language(language):
    if not programs.LANGUAGES[language].available:
        pytest.skip(f"no tools for {language} on this machine")
    outcome = programs.run(HELLO[language], language, stdin="hello\n")
    assert (outcome.code, outcome.output.strip()) == (0, "hello"), outcome.errors


def test_python_and_bash_are_always_there():
    assert programs.LANGUAGES["python"].available
    assert programs.LANGUAGES["bash"].available


def test_failure_is_told():
    outcome = programs.run("import sys; print('so far'); sys.exit('bad')")
    assert (outcome.code, outcome.output, outcome.errors) == (1, "so far\n", "bad\n")


def test_a_program_that_does_not_end_is_stopped_with_its_children():
    source = "import subprocess\nprint('x', flush=True)\nsubprocess.run(['sleep', '600'])"
    start = time.monotonic()
    outcome = programs.run(source, seconds=1)
    assert time.monotonic() - start < 15
    assert outcome.code < 0
    assert outcome.output == "x\n"
    assert "stopped after 1 s" in outcome.errors


def test_nothing_of_the_users_environment_is_seen(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    shown = programs.run("import os; print(sorted(os.environ), os.getcwd())").output
    assert "SECRET_TOKEN" not in shown
    assert str(Path.cwd()) not in shown


def test_memory_is_bounded():
    if not programs._limits("python", 1):
        pytest.skip("no prlimit on this machine")
    assert "MemoryError" in programs.run("x = bytearray(8 << 30)").errors


def test_there_is_no_network():
    if not programs._without_network():
        pytest.skip("this machine does not let a user cut off the network")
    source = "import socket; socket.create_connection(('127.0.0.1', 9), 2)"
    assert "unreachable" in programs.run(source).errors


def test_the_last_block_of_the_language_counts():
    text = "```python\na = 1\n```\n\n```bash\nls\n```\n\n```py\na = 2\n```\n"
    assert programs.code_in(text, "python") == "a = 2\n"
    assert programs.code_in(text, "bash") == "ls\n"
    assert programs.code_in(text, "rust") == ""


def test_an_unknown_language():
    with pytest.raises(UnknownNameError, match="did you mean 'python'"):
        programs.run("", "pyton")


def test_a_language_without_its_tools(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DemosError, match="cannot be run here"):
        programs.run("", "rust")
