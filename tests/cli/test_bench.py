"""``gpubp bench`` from the command line."""

import json

import pytest

SMALL = ("bench", "--quick", "--network", "6-5-3", "--batch-size", "8", "--against", "none")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the document of a small run."""
    from click.testing import CliRunner  # noqa: PLC0415

    from gpubp.cli.main import main  # noqa: PLC0415

    file = tmp_path_factory.mktemp("bench") / "result.json"
    done = CliRunner().invoke(main, [*SMALL, "--devices", "cpu", "--json", str(file)])
    # 1 says that something is above its roof, which a busy machine can make of any time.
    assert done.exit_code == 0 or "the machine was busy" in done.output, done.output
    document = json.loads(file.read_text(encoding="utf-8"))
    for row in document["rows"]:
        if row["utilisation"] is not None:
            row["utilisation"] = min(row["utilisation"], 1.0)
    return document


@pytest.fixture
def saved(made, tmp_path):
    """Return a function that writes a document, changed by another function."""

    def write(name, change=lambda document: None):
        document = json.loads(json.dumps(made))
        change(document)
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
        return tmp_path / name

    return write


def test_a_result_is_shown_with_its_figures_and_advice(gpubp, saved):
    done = gpubp("bench", "--show", saved("result.json"))
    assert done.code == 0
    for words in (
        "A training step of 6-5-3",
        "backward / forward",
        "For 6-5-3 use the CPU",
        "right",
    ):
        assert words in done.out
    assert done.err == ""


def test_two_results_are_compared_and_reported(gpubp, saved, tmp_path):
    def slower(document):
        for row in document["rows"]:
            for field in ("samples", "interval"):
                row[field] = [100 * value for value in row[field]]
            row["median"] *= 100

    old, new = saved("old.json"), saved("new.json", slower)
    done = gpubp("bench", "--show", new, "--compare", old, "--html", tmp_path / "r.html")
    assert done.code == 0
    assert "slower" in done.out
    assert "+1.00" in done.out
    assert "100.00" in done.out
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!")


def test_a_report_is_read_like_the_json_that_is_in_it(gpubp, saved, tmp_path):
    file, page = saved("result.json"), tmp_path / "report.html"
    first = gpubp("bench", "--show", file, "--html", page)
    assert first.code == 0
    shown = gpubp("bench", "--show", page, "--compare", page)
    assert shown.code == 0
    assert shown.out == gpubp("bench", "--show", file, "--compare", file).out
    cut = tmp_path / "cut.html"
    cut.write_text(page.read_text(encoding="utf-8")[:5000], encoding="utf-8")
    done = gpubp("bench", "--show", cut)
    assert done.code == 2
    assert "not the whole of it" in done.err


def test_what_is_above_its_roof_fails(gpubp, saved):
    def impossible(document):
        document["rows"][0]["utilisation"] = 3.0

    done = gpubp("bench", "--show", saved("result.json", impossible))
    assert done.code == 1
    assert "3.00 of its" in done.err


def test_a_wrong_loss_fails(gpubp, saved):
    def wrong(document):
        document["rows"][0]["correct"]["ok"] = False

    done = gpubp("bench", "--show", saved("result.json", wrong))
    assert done.code == 1
    assert "loss is wrong" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--network", "7"], "784-256-10"),
        (["--network", "7-3:rely"], "relu"),
        (["--batch-size", "0"], "64,256,1024"),
        (["--precision", "fp31"], "fp32"),
        (["--precision", "tf32", "--devices", "cpu"], "none of the precisions"),
        (["--devices", "gpu"], "cuda"),
        (["--against", "keras"], "torch"),
        (["--show", "absent.json"], "absent.json"),
        (["--compare", "absent.html"], "--json"),
        (["--budget", "0"], "budget"),
    ],
)
def test_wrong_use_is_explained(gpubp, arguments, words):
    done = gpubp("bench", *arguments)
    assert done.code == 2
    assert words in done.err


def test_a_file_of_something_else_is_refused(gpubp, tmp_path):
    for text in ("[]", "{}", '{"format": "other/1"}', "no json"):
        (tmp_path / "other.json").write_text(text)
        assert gpubp("bench", "--show", tmp_path / "other.json").code == 2
