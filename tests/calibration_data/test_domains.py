"""The domains that come with easyep hold what they promise, and their answers are right."""

import json
import re
from collections import Counter

import pytest

from easyep import cli
from easyep.demonstrations import catalogue, checks, domain_file, domains, programs, quality, read
from tests.calibration_data import proofs

DIFFICULTIES = {"easy", "medium", "hard"}


@pytest.fixture(params=domains())
def domain(request):
    return request.param, read(domain_file(request.param))


def test_there_are_enough_and_they_differ(domain):
    name, demos = domain
    assert len(demos) >= 25
    assert len({demo.metadata["topic"] for demo in demos}) >= 5, name
    assert quality.near_duplicates(demos) == []


def test_each_says_what_it_is(domain):
    for demo in domain[1]:
        assert demo.metadata["topic"], demo.origin
        assert demo.metadata["difficulty"] in DIFFICULTIES, demo.origin
        assert re.fullmatch(r"[a-z]{2}", demo.metadata["language"]), demo.origin
        assert demo.content["messages"][-1]["role"] == "assistant", demo.origin


def test_the_last_answer_can_be_shown_in_both_styles(domain):
    for demo in domain[1]:
        last = demo.content["messages"][-1]
        assert last["content"].strip(), demo.origin
        assert "<think>" not in last["content"], demo.origin
        thoughts = [m.get("reasoning_content") for m in demo.content["messages"]]
        assert any(thoughts), demo.origin


def test_nothing_is_doubtful(domain):
    checkable = [
        demo
        for demo in domain[1]
        if programs.LANGUAGES[demo.metadata.get("check", {}).get("language", "python")].available
    ]
    assert checkable
    assert quality.inspect(checkable, run_programs=True) == []


def test_a_second_way_leads_to_the_same_answers(domain):
    name, demos = domain
    specs = [d.metadata["check"] for d in demos if "program" in d.metadata.get("check", {})]
    results = proofs.second_results(specs) if specs else []
    for spec, result in zip(specs, results, strict=True):
        if spec["kind"] == "choice":
            assert result == spec["answer"], spec
        else:
            assert checks.check(f"answer: {result}", spec) == "", (spec, result)
    assert specs or name not in ("math", "finance", "science")


def test_every_key_of_a_choice_has_a_second_derivation(domain):
    for demo in domain[1]:
        spec = demo.metadata.get("check", {})
        if spec.get("kind") == "choice":
            assert spec.get("program") or len(spec["derivation"]) > 60, demo.origin


def test_no_letter_is_the_best_guess(domain):
    choices = [d for d in domain[1] if d.metadata.get("check", {}).get("kind") == "choice"]
    keys = Counter(demo.metadata["check"]["answer"] for demo in choices)
    if choices:
        assert set(keys) == set("ABCD")
        assert max(keys.values()) - min(keys.values()) <= 1, keys


def test_keys_and_letters_in_the_answer_agree(domain):
    for demo in domain[1]:
        if demo.metadata.get("check", {}).get("kind") == "choice":
            asked, answer = (m["content"] for m in demo.content["messages"][-2:])
            options = re.findall(r"^([A-D])\. .+$", asked, re.M)
            assert options == list("ABCD"), demo.origin
            assert answer.endswith(f"Answer: **{demo.metadata['check']['answer']}**"), demo.origin


def test_thinking_is_more_than_a_note(domain):
    name, demos = domain
    thoughts = [
        "".join(m.get("reasoning_content") or "" for m in demo.content["messages"])
        for demo in demos
    ]
    assert min(map(len, thoughts)) >= 70, name
    assert len({thought[:12] for thought in thoughts}) > 0.9 * len(demos)


def test_some_documents_are_long():
    lengths = sorted(
        len(part.split())
        for demo in read(domain_file("documents"))
        for part in re.findall(
            r"<document>\n(.*?)\n</document>", demo.content["messages"][0]["content"], re.S
        )
    )
    assert 3000 < lengths[-3] <= lengths[-1] < 4500


def test_sessions_print_what_they_show(domain):
    for demo in domain[1]:
        if demo.metadata.get("check", {}).get("kind") == "session":
            setup = demo.metadata["check"]["setup"]
            assert proofs.check_session(demo.content["messages"], setup) == "", demo.origin


def test_tool_calls_fit_their_schemas(domain):
    for demo in domain[1]:
        assert proofs.check_calls(demo.content["messages"], demo.content.get("tools", [])) == ""


def test_nothing_of_the_evaluation_is_among_them(domain):
    files = quality.texts_of(quality.own_items())
    assert files
    for name, items in files.items():
        assert quality.leaks(domain[1], name, items) == []


def test_the_readme_lists_what_is_there(root):
    text = (root / "calibration_data" / "README.md").read_text(encoding="utf-8")
    for name in domains():
        found = catalogue.entry(name)
        assert re.search(
            rf"^\| {name} \| {found.demos} \|.*\| {found.characters:,} \|.*`{found.sha256}` \|$",
            text,
            re.M,
        ), f"the row of {name} is out of date: easyep demos table writes it"
    assert catalogue.topics() in text


def test_the_list_agrees_with_the_readme(root, capsys):
    with pytest.raises(SystemExit):
        cli.main(["list", "domains", "--json"])
    listed = {
        row["name"]: str(row["demonstrations"])
        for row in json.loads(capsys.readouterr().out)["domains"]
        if row["for model"] == "any"
    }
    text = (root / "calibration_data" / "README.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| (\w+) \| (\d+) \|", text, re.M)) == listed
