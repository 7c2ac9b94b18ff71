"""`easyep report`: what is there is shown, what is not is said."""

import json
import re
import shutil
import subprocess

import pytest

import easyep
from easyep.errors import ArtifactError, MissingDependencyError
from easyep.reporting import cost_figures, rate_figure
from tests import records
from tests.cli.test_cli import run

LIKENESS = {"agreement_spread": None, "kl_spread": None, "loss": 1.0, "loss_spread": None}
AXES = {"groups": "flatten", "shown": "own", "n_demos": 25, "reroute": True}


def row(criterion, keep, mean):
    means = {"mean": mean, "spread": 0.01, "domains": {"math": mean}, "agreement": mean}
    values = {"criterion": criterion, "keep": keep, "bytes": 100, "kl": 1.1 - mean}
    return {**values, **means, **AXES, **LIKENESS}


STUDY = {
    "schema": 1,
    "study": {"study": "some <b>study</b>", "domains": ["math"]},
    "summary": [
        row("full", 32, 0.99),
        *(row("easy-ep", keep, mean) for keep, mean in ((16, 0.9), (8, 0.7))),
        *(row("reap", keep, mean) for keep, mean in ((16, 0.8), (8, 0.5))),
    ],
}
DOMAIN = {
    "domain": "math",
    "tokens": 1234,
    "median": 0.01,
    "p99": 0.9,
    **{
        name: {"value": value, "stderr": None}
        for name, value in (("divergence", 0.0625), ("agreement", 0.98), ("loss_difference", 0.1))
    },
}
COMPARED = {"schema": 1, "first": "a", "second": "b", "domains": [DOMAIN], "settings": {}}
BENCH = {
    "models": ["a"],
    "fixed_batch": {
        "results": [
            {"model": "a", "random_input_len": 8, "random_output_len": 8, "max_concurrency": b,
             "decode_throughput": 10.0 * b, "std_decode_throughput": 1.0}
            for b in (1, 2, 4)
        ]
    },
    "roofline": {
        "points": [
            {"model": "a", "random_input_len": 8, "random_output_len": 8, "max_concurrency": b,
             "decode_throughput": 30.0 * b}
            for b in (1, 2, 4)
        ]
    },
}  # fmt: skip

RATES = {
    "models": ["a"],
    "fixed_batch": {"results": [], "gains": []},
    "request_rates": {
        "results": [
            {"model": "a", "random_input_len": 8, "random_output_len": 8, "max_concurrency": 16,
             "request_rate": rate, "request_throughput": 0.9 * rate, "std_request_throughput": None,
             "median_ttft_ms": 20.0 * rate, "p99_ttft_ms": 50.0 * rate}
            for rate in (4.0, 2.0, 1.0)
        ],
        "gains": [],
    },
}  # fmt: skip
TASK = {"task": "sums", "metric": "acc,none", "samples": 40, "version": "1", "part_of": ""}
EVALUATED = {
    "a": {"results": [{**TASK, "value": 0.875, "stderr": 0.05}], "settings": {}},
    "b": {"results": [{**TASK, "value": 0.9, "stderr": None}], "settings": {}},
    "differences": [
        {"task": "sums", "metric": "acc,none", "difference": -0.025, "stderr": 0.02, "p": 0.5}
    ],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    easyep.prune(
        "demo",
        domain=["math", "code"],
        n_demos=4,
        dtype="float32",
        keep=0.5,
        output=folder / "pruned",
        work_dir=folder / "work",
    )
    (folder / "study.json").write_text(json.dumps(STUDY))
    (folder / "compared.json").write_text(json.dumps(COMPARED))
    (folder / "bench.json").write_text(json.dumps(BENCH))
    (folder / "rates.json").write_text(json.dumps(RATES))
    (folder / "eval.json").write_text(json.dumps(EVALUATED))
    return folder


@pytest.fixture(scope="module")
def whole(made):
    names = ("pruned", "work", "study.json", "eval.json", "compared.json", "bench.json")
    names += ("rates.json",)
    page = made / "whole.html"
    return easyep.report(*(made / n for n in names), output=page, figures=made / "figures")


@pytest.mark.parametrize("turned", [False, True])
def test_another_run_s_choice_is_not_shown_under_a_checkpoint_s_name(made, tmp_path, turned):
    other, work = tmp_path / "other", tmp_path / "work"
    easyep.prune(
        "demo", domain=["facts"], n_demos=4, dtype="float32", keep=8, output=other, work_dir=work
    )
    paths = [made / "pruned", work][:: -1 if turned else 1]
    page = easyep.report(*paths, output=tmp_path / "page.html").path.read_text()
    assert "16 of 32" in page.replace("<b>", "").replace("</b>", "")
    assert "it has other experts than" in page
    assert "it is of other observations than" in page


def test_scores_belong_to_what_was_rewritten_stage_by_stage(capsys, made, tmp_path):
    """Its manifest does not know which observations its selection came from."""
    words = ["--model", "demo", "--selection", made / "work" / "selection.json"]
    assert run(capsys, "rewrite", *words, "--output", tmp_path / "out")[0] == 0
    page = easyep.report(tmp_path / "out", made / "work", output=tmp_path / "page.html")
    assert "Coverage of the score" in page.figures
    assert "other observations" not in page.path.read_text()


def test_a_study_of_one_set_is_shown(capsys, tmp_path):
    records.observations().save(tmp_path / "o")
    words = ["--observations", tmp_path / "o", "--keep", "4", "--output", tmp_path / "one.json"]
    assert run(capsys, "stability", *words)[0] == 0
    page = easyep.report(tmp_path / "one.json", output=tmp_path / "page.html")
    assert page.figures == ("Stability against the number of demonstrations",)


def test_everything_that_is_there_is_shown(made, whole):
    assert whole.figures == (
        "Kept experts by layer",
        "Coverage of the score",
        "Margins of the decision",
        "Overlap between domains, by easy-ep",
        "Overlap between criteria",
        "Accuracy and KL against experts kept",
        "KL to the reference by domain",
        "Memory before and after",
        "Throughput against batch",
        "A server at request rates",
    )
    assert list(whole.left_out) == ["stability against the number of demonstrations"]
    text = whole.path.read_text()
    manifest = json.loads((made / "pruned" / "easyep.json").read_text())
    share = manifest["bytes_after"] / manifest["bytes_before"]  # without the layer left out, too
    assert f"after ({share:.1%})" in text
    for digest in manifest["checksums"].values():
        assert digest in text
    least = min(manifest["retained_share"].values())
    assert f"{least:.1%}, in layer" in text
    assert "<td>0.0625</td>" in text
    assert "<td>87.5 ± 5.0</td><td>90.0</td><td>-2.5 ± 2.0</td><td>0.5</td>" in text
    least = re.search(r"<td>math</td>.*<td>(\d+\.\d)</td><td>(\d+\.\d)</td></tr>", text)
    assert least is not None
    assert 0 < float(least[2]) < float(least[1]) < 100
    assert "some &lt;b&gt;study" in text
    assert len(whole.files) == 2 * len(whole.figures)
    for file in whole.files:
        assert file.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert set(manifest["unreached"]) == {"math", "code"}


def test_throughput_is_drawn_with_its_roof_or_the_roof_alone():
    (axes,) = cost_figures.throughput(BENCH).figure.axes
    heights = sorted(
        tuple(map(float, line.get_ydata())) for line in axes.lines if len(line.get_ydata())
    )
    assert (10.0, 20.0, 40.0) in heights
    assert (30.0, 60.0, 120.0) in heights
    roof = [{**point, "experts": 4} for point in BENCH["roofline"]["points"]]
    (axes,) = cost_figures.throughput({"fixed_batch": roof}).figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[30.0, 60.0, 120.0]]


def test_request_rates_are_drawn_without_a_batch(made, tmp_path):
    answered, waited = rate_figure.drawn(RATES["request_rates"]["results"]).figure.axes
    lines = [list(map(float, line.get_ydata())) for line in answered.lines if len(line.get_ydata())]
    assert [0.9, 1.8, 3.6] in lines  # in the order of the rates
    assert [1.0, 2.0, 4.0] in lines
    assert [list(line.get_ydata()) for line in waited.lines] == [[20, 40, 80], [50, 100, 200]]
    done = easyep.report(made / "rates.json", output=tmp_path / "r.html")
    assert done.figures == ("A server at request rates",)
    assert "no result has decoded at a fixed batch" in done.left_out["throughput against batch"]


def test_rates_at_which_nothing_was_answered_are_not_drawn(tmp_path):
    point = {**RATES["request_rates"]["results"][0], "ended": "memory"}
    (tmp_path / "rates.json").write_text(
        json.dumps({**RATES, "request_rates": {"results": [point]}})
    )
    done = easyep.report(tmp_path / "rates.json", output=tmp_path / "r.html")
    assert done.figures == ()
    assert "damaged" not in done.path.read_text()


def test_one_checkpoint_makes_a_report(made, tmp_path):
    shutil.copytree(made / "pruned", tmp_path / "again")
    done = easyep.report(made / "pruned", tmp_path / "again", output=tmp_path / "r.html")
    assert "a report is of one checkpoint" in done.path.read_text()
    assert done.figures[-1] == "Memory before and after"


def test_a_checkpoint_alone(made, capsys):
    page = made / "alone.html"
    code, out, _ = run(capsys, "report", made / "pruned", "--output", page, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["figures"] == ["Kept experts by layer", "Memory before and after"]
    assert "no scores.json" in found["left_out"]["scores, coverage, margins"]
    assert "no scores.json" in page.read_text()


def test_the_page_is_called_after_the_folder(made, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "report", made / "study.json")
    assert code == 0
    assert "Accuracy and KL" in out
    assert "study.html written" in err
    assert (tmp_path / "study.html").read_text().startswith("<!doctype html>")
    shutil.copytree(made / "pruned", tmp_path / "Model-2.5-32B")
    assert run(capsys, "report", tmp_path / "Model-2.5-32B")[0] == 0
    assert (tmp_path / "Model-2.5-32B.html").exists()


def test_damaged_files_are_named_and_left_aside(made, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    shutil.copy(made / "study.json", folder / "good.json")
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_text('{"a": 1}')
    rows = [
        {"criterion": "full"},
        {"criterion": "easy-ep", "keep": 4},
        {"criterion": "x", "keep": 3},
    ]
    (folder / "short.json").write_text(json.dumps({**STUDY, "summary": rows}))
    done = easyep.report(folder, output=tmp_path / "r.html")
    assert done.figures == ("Accuracy and KL against experts kept",)
    text = done.path.read_text()
    for name, why in (("broken", "JSON"), ("other", "not a file of results"), ("short", "damaged")):
        assert re.search(rf"{name}\.json</dt><dd>[^<]*{why}", text), name


def test_what_is_of_another_model_does_not_stop_a_report(made, tmp_path):
    records.observations(experts=8).save(tmp_path / "other" / "observations" / "theirs")
    sources = [made / "pruned", made / "work", tmp_path / "other"]
    done = easyep.report(*sources, output=tmp_path / "r.html")
    assert "Overlap between criteria" in done.figures
    assert "<td>made-up</td>" in done.path.read_text()


def test_scores_that_lack_a_layer_are_left_out(made, tmp_path):
    shutil.copytree(made / "work", tmp_path / "work")
    scores = json.loads((made / "work" / "scores.json").read_text())
    del scores["layers"]["2"], scores["peaks"]["2"]
    (tmp_path / "work" / "scores.json").write_text(json.dumps(scores))
    done = easyep.report(tmp_path / "work", output=tmp_path / "r.html")
    assert done.figures[0] == "Kept experts by layer"
    assert done.left_out["scores"] == "layer 2, whose experts are chosen, has none"


def test_what_cannot_be_reported(tmp_path, made, monkeypatch):
    with pytest.raises(ArtifactError, match="does not exist"):
        easyep.report(tmp_path / "nothing", output=tmp_path / "r.html")
    with pytest.raises(ArtifactError, match="cannot be read: File name too long"):
        easyep.report("x" * 300, output=tmp_path / "r.html")
    with pytest.raises(ArtifactError, match="nothing of easyep's was found"):
        easyep.report(tmp_path, output=tmp_path / "r.html")
    monkeypatch.setattr("easyep.reporting.drawing.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="easyep\\[figures\\]"):
        easyep.report(made / "study.json", output=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHECK = """<script>addEventListener("load", () => {
  const figures = [...document.querySelectorAll("figure svg")];
  const told = {sizes: figures.map(svg => svg.getBoundingClientRect().width),
    ground: getComputedStyle(document.body).backgroundColor, orders: []};
  const table = document.querySelector("table"), column = 1;
  const order = () => [...table.tBodies[0].rows].map(r => r.cells[column].textContent);
  const button = table.tHead.rows[0].cells[column].querySelector("button");
  for (let i = 0; i < 2; i++) { button.click(); told.orders.push(order()); }
  document.body.dataset.told = JSON.stringify(told);
});</script></body>"""


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(whole, tmp_path, dark):
    """No errors on the console, figures with a size, tables that sort, both grounds."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    page = tmp_path / "page.html"
    page.write_text(whole.path.read_text().replace("</body>", CHECK))
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += ["--force-dark-mode"] if dark else []
    done = subprocess.run(
        [*words, "--virtual-time-budget=3000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    found = re.search(r'data-told="([^"]*)"', done.stdout)
    assert found is not None
    told = json.loads(found[1].replace("&quot;", '"'))
    assert len(told["sizes"]) == len(whole.figures)
    assert min(told["sizes"]) > 150
    assert told["ground"] == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
    falling, rising = ([float(text) for text in order] for order in told["orders"])
    assert falling == sorted(falling, reverse=True)
    assert rising == sorted(rising)
    assert len(set(rising)) > 1
