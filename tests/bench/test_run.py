"""A whole run, small: the document holds what it says."""

import json

import numpy as np
import pytest

from gpubp.bench import race, run
from gpubp.bench.contenders import ENTRIES
from gpubp.bench.contenders.ours import make_trainer
from gpubp.bench.processes import Pool
from gpubp.bench.report import result


@pytest.fixture(scope="module")
def settings():
    return run.Settings(
        networks=[((6, 5, 3), "relu"), ((6, 5, 3), "tanh")], batches=(8, 16), peers=("sklearn",),
        quick=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def document(settings):
    said = []
    found = run.run(settings, said.append)
    assert said[:2] == [
        "kernels, which the first run on a machine compiles",
        "roofs of cpu in fp32",
    ]
    assert said[2:] == [f"{case.name}, fp32 on cpu" for case in settings.cases()]
    return found


def rows(document, **wanted):
    return [r for r in document["rows"] if all(r[k] == v for k, v in wanted.items())]


def test_it_is_json_without_what_json_has_not(document):
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_report_can_read_it(document):
    assert len(result.read(document).rows) == len(document["rows"])


def test_peers_are_timed_at_the_middle_batch(document):
    found = {row["batch_size"] for row in rows(document, contender="scikit-learn")}
    assert found == {8}


def test_every_row_is_of_its_samples(document):
    assert len(rows(document, contender="gpubp")) == 2 * 2 * 5
    for row in document["rows"]:
        assert len(row["samples"]) >= 3
        assert row["median"] == np.median(row["samples"])
        low, high = row["interval"]
        assert low <= row["median"] <= high
        assert row["correct"]["ok"]


def test_operations_and_bytes_are_those_of_the_plan(document, settings):
    for case in settings.cases():
        plan = make_trainer(case).plan(case.batch)
        what = {"network": case.network, "batch_size": case.batch, "contender": "gpubp"}
        (step,) = rows(document, phase="step", **what)
        assert step["flops"] == plan.flops
        assert step["bytes"] == sum(call.bytes for call in plan.calls)
        phases = [rows(document, phase=p, **what)[0] for p in ("forward", "backward", "update")]
        assert sum(phase["flops"] for phase in phases) == plan.flops


def test_there_is_a_breakdown_and_the_memory_of_each_case(document, settings):
    cases = [(case.network, case.batch) for case in settings.cases()]
    for part in ("breakdown", "memory"):
        assert [(e["network"], e["batch_size"]) for e in document[part]] == cases
    assert all(entry["calls"] for entry in document["breakdown"])
    for entry in document["memory"]:
        of = entry["bytes"]
        assert of["optimizer"] == 2 * of["parameters"] == 2 * of["gradients"]
        assert of["peak process"] > of["data"] > 0


def test_there_is_advice_for_each_network(document):
    assert [text.split()[1] for text in document["recommendations"]] == ["6-5-3"] * 2
    assert "tanh" in document["recommendations"][1]


def test_roofs_are_there_once(document):
    what = [(r["kind"], r["precision"], r.get("bytes")) for r in document["roofs"]]
    assert len(set(what)) == len(what)
    assert {kind for kind, *_ in what} == {"gemm", "copy", "call"}
    assert all(roof["value"] > 0 for roof in document["roofs"])


def test_the_budget_is_said(document, settings):
    assert document["budget"]["seconds"] == settings.budget
    assert document["budget"]["taken"] > 0


def test_who_is_cut_is_named_with_where(settings):
    case, other = list(settings.cases())[:2]
    entry = next(entry for entry in ENTRIES if entry.role == "peer")
    missing = {}
    for where in (case, other):
        run._note_missing(missing, where, {entry.name: race.Result(entry, race.NO_TIME)})
    failed = {entry.name: race.Result(entry, failure="Traceback\nValueError: so")}
    run._note_missing(missing, case, failed)
    run._note_missing(missing, other, {entry.name: race.Result(entry, "pip install it")})
    assert missing == {
        (entry.name, race.NO_TIME): [case.name, other.name],
        (entry.name, "ValueError: so"): [case.name],
        (entry.name, "pip install it"): [],
    }


def test_a_floor_takes_what_the_other_bytes_take(settings):
    case = next(settings.cases())
    entry = next(entry for entry in ENTRIES if entry.role == "floor")
    with Pool() as pool:
        costs = run.costs_of(case, pool)
    roofs = [{"device": "cpu", "kind": "copy", "bytes": 4, "value": costs["elementwise"] / 3}]
    (row,) = run.rows_of(case, race.Result(entry, samples={"step": [1.0, 2.0]}), costs, roofs)
    assert row["samples"] == [4.0, 5.0]


def test_a_larger_share_of_the_time_goes_to_who_has_more_to_do(settings):
    middle, *others = sorted(settings.cases(), key=settings.weight, reverse=True)
    assert len(settings.entries(middle)) > 1
    assert settings.weight(middle) > settings.weight(others[-1]) > 0


def test_of_two_measurements_the_better_roof_counts():
    document = {"roofs": []}
    copy = {"device": "cpu", "kind": "copy", "precision": None, "unit": "B/s", "bytes": 4}
    call = {"device": "cpu", "kind": "call", "precision": None, "unit": "s"}
    run._merge_roofs(document, [copy | {"value": 1.0}, call | {"value": 1.0}])
    run._merge_roofs(document, [copy | {"value": 2.0}, call | {"value": 2.0}])
    run._merge_roofs(document, [copy | {"value": 0.5}, call | {"value": 0.5}])
    assert [roof["value"] for roof in document["roofs"]] == [2.0, 0.5]


def test_nobody_is_told_where_it_ran(document):
    text = json.dumps(document)
    for secret in ("/home", "/root", "/tmp", "site-packages"):
        assert secret not in text
