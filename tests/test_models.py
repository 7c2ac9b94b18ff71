"""What --model means."""

import json
import shutil
from pathlib import Path

import pytest

import easyep
from easyep import models, resources
from easyep.errors import ModelNotFoundError, UnknownNameError


def cache(tmp_path: Path, files: dict[str, str]) -> None:
    """A Hugging Face cache with one repository, as `hf download` leaves it."""
    repo = tmp_path / "models--org--model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name, text in files.items():
        (snapshot / name).write_text(text)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def test_the_demo_comes_with_easyep():
    model = models.resolve("demo")
    assert (model.path / "config.json").exists()
    assert (model.calibration, model.tasks) == ("demo", "easyep_demo")


def test_a_directory_is_itself(tmp_path):
    assert models.resolve(str(tmp_path)).path == tmp_path


def test_what_was_made_from_the_demo_reads_the_same(pruned, tmp_path):
    again = tmp_path / "again"
    easyep.rewrite(pruned.path, easyep.select(of_all(pruned), 8), again)
    other = tmp_path / "other"
    shutil.copytree(pruned.path, other)
    (other / "tokenizer.json").write_text("{}")
    for path, calibration in ((pruned.path, "demo"), (again, "demo"), (other, "")):
        assert models.resolve(str(path)).calibration == calibration
    shown = {
        name: [demo.sha256 for demo in easyep.observe(name, domain="math", n_demos=2).demos]
        for name in ("demo", pruned.path)
    }
    assert shown["demo"] == shown[pruned.path]
    domains = {"domain": ["math", "facts"], "n_demos": 2, "max_new_tokens": 0}
    there, back = easyep.compare("demo", again, **domains), easyep.compare(again, "demo", **domains)
    assert [one.tokens for one in there.domains] == [one.tokens for one in back.domains]


def of_all(pruned):
    """Scores of a pruned model's experts."""
    return easyep.score(model=pruned.path, criterion="random")


def test_a_folder_that_is_no_model_is_not_in_the_way_of_a_short_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert models.resolve("demo").path == resources.demo_model()
    assert models.brought("demo")["calibration"] == "demo"
    (tmp_path / "demo" / "config.json").write_text("{}")
    assert models.resolve("demo").path == Path("demo")
    for name in ("other", "kimi-k2"):  # nothing is fetched where a folder was meant
        (tmp_path / name).mkdir()
        assert models.resolve(name).path == Path(name)


def test_what_lies_in_the_cache_is_used(tmp_path, monkeypatch):
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    files = {
        "config.json": "{}",
        "model.safetensors.index.json": json.dumps(index),
        "model-00001-of-00001.safetensors": "",
    }
    cache(tmp_path, files)
    expected = tmp_path / "models--org--model" / "snapshots" / "abc"
    assert models.resolve("org/model").path == expected
    monkeypatch.setattr(models, "aliases", lambda: {"short": {"hub": "org/model"}})
    assert models.resolve("short").path == expected


@pytest.mark.parametrize("name", ["org/model", "org/model@v2", "deepseek-v3"])
def test_what_is_nowhere_says_what_to_do(tmp_path, name):
    cache(tmp_path, {"config.json": "{}"})  # the weights are missing
    with pytest.raises(ModelNotFoundError, match="cannot be fetched.*hf download"):
        models.resolve(name)


def test_misspelt_names():
    with pytest.raises(UnknownNameError, match="did you mean 'deepseek-v3"):
        models.resolve("deepsek-v3")
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        models.resolve("./nowhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", "is a file, and a model is a directory with .*safetensors files$"),
        (
            "model-Q4_K_M.gguf",
            "is a file, .*; prune the model that the GGUF file was converted from",
        ),
    ],
)
def test_a_file_is_no_model(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=message):  # not a repository's name either
        models.resolve(f"folder/{name}")


@pytest.mark.parametrize("name", ["org/a--b", "org/a..b", "org/model.git", "ö/ö", "org/-x"])
def test_names_that_no_repository_can_have(name):
    with pytest.raises(ModelNotFoundError, match="neither a directory nor a name of the Hugging"):
        models.resolve(name)


def test_a_name_that_the_system_refuses():
    with pytest.raises(ModelNotFoundError, match="cannot be read: File name too long"):
        models.resolve("x" * 300)


def test_a_page_of_the_hub_is_named_as_its_repository():
    with pytest.raises(ModelNotFoundError, match=r"is named without it: org/model-1\.5$"):
        models.resolve("https://huggingface.co/org/model-1.5/tree/main")


def test_every_alias_leads_somewhere():
    for alias, entry in models.aliases().items():
        assert set(entry) <= {"hub", "package", "calibration", "tasks"}, alias
        assert ("hub" in entry) != ("package" in entry)
