"""A release is self-contained, its gates are held to the scores, and the alias moves only when they hold."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arm import jobs
from arm.errors import UserError
from arm.manifest import Manifest, entries_of, licences_in
from arm.storage import LocalFolder
from arm.tracking.config import Gate, RegisterConfig
from arm.tracking.registration import comparisons_of, judge, read_contamination, registration_event
from arm.tracking.sender import Sender, connect

SCORES = {
    "finetuned": {"text_to_image/mean": 0.43, "questions/accuracy": 0.7},
    "t2i_policy": {"text_to_image/mean": 0.42, "questions/accuracy": 0.6},
}


@pytest.fixture(autouse=True)
def own_tracker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "ARM_PIPELINE_KEY", "ARM_LINEAGE_URL"):
        monkeypatch.delenv(name, raising=False)
    return


def artifact(store: Path, kind: str, files: dict[str, str], **config: Any) -> Manifest:
    """An artifact of those files, as its job would have left it."""
    folder = LocalFolder(store / kind / "k")
    for name, text in files.items():
        folder.write(name, text.encode())
    made = Manifest(
        kind=kind, job=f"make-{kind}", version=1, key=kind, config=config, inputs={}, counts={}, metrics={},
        files=entries_of(folder), licences=tuple(sorted(licences_in(config))), folder=folder,
    )  # fmt: skip
    folder.write("manifest.json", made.to_json())
    return made


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, str]:
    return {
        "model": artifact(tmp_path, "model", {"model/config.json": "{}", "curves.jsonl": ""}, licence="Apache-2.0").url,
        "tokenizer": artifact(tmp_path, "tokenizer", {"tokenizer/a/b.bin": "t"}, source={"licence": "CC-BY-4.0"}).url,
        "detokenizer": artifact(tmp_path, "detokenizer", {"detokenizer/w.bin": "d"}).url,
        "evaluation": artifact(tmp_path, "evaluation", {"scores.json": json.dumps(SCORES)}).url,
    }


def register(store: Path, inputs: dict[str, str], gates: str = "[]") -> Manifest:
    return jobs.run(
        "register-model", output=str(store / "23-register-model"), config=f'{{"gates": {gates}}}', inputs=inputs
    )


def test_a_release_holds_all_that_inference_needs(tmp_path: Path, inputs: dict[str, str]) -> None:
    made = register(tmp_path, inputs)
    assert [entry.path for entry in made.files] == [
        "detokenizer/w.bin", "evaluation/scores.json", "model/config.json", "release.json", "tokenizer/a/b.bin",
    ]  # fmt: skip
    assert made.local("tokenizer/a/b.bin").read_text() == "t"
    release = json.loads(made.local("release.json").read_text())
    assert release["licences"] == ["Apache-2.0", "CC-BY-4.0"]
    assert release["digests"].keys() == {"model", "tokenizer", "detokenizer", "evaluation"}
    assert release["made_from"]["model"] == {"kind": "model", "job": "make-model", "inputs": {}}
    assert made.licences == ("Apache-2.0", "CC-BY-4.0")


def test_a_release_names_the_sizes_of_images_that_its_evaluation_named(tmp_path: Path, inputs: dict[str, str]) -> None:
    assert "sizes" not in json.loads(register(tmp_path, inputs).local("release.json").read_text())
    sizes = {"image_size": 1024, "edit_resolution": {"min_short_side": 512, "max_long_side": 1024}}
    named = artifact(tmp_path / "named", "evaluation", {"scores.json": json.dumps(SCORES)}, seed=0, **sizes)
    made = register(tmp_path / "named", {**inputs, "evaluation": named.url})
    assert json.loads(made.local("release.json").read_text())["sizes"] == sizes


def test_a_release_is_the_same_once_the_store_around_its_parts_is_gone(tmp_path: Path, inputs: dict[str, str]) -> None:
    """Licences come along in the manifests: nothing is looked for where run.json says that it once lay."""
    before = register(tmp_path / "a", inputs)
    for url in inputs.values():
        Path(url).with_name("run.json").write_text('{"inputs": {"images": "/gone"}}')
    assert register(tmp_path / "b", inputs).digest == before.digest


def test_a_release_does_not_depend_on_where_it_was_made(tmp_path: Path) -> None:
    def files(store: Path) -> dict[str, str]:
        return {
            "model": artifact(store, "model", {"model/config.json": "{}"}).url,
            "tokenizer": artifact(store, "tokenizer", {"tokenizer/a": "t"}).url,
            "detokenizer": artifact(store, "detokenizer", {"detokenizer/w": "d"}).url,
            "evaluation": artifact(store, "evaluation", {"scores.json": "{}"}).url,
        }

    assert (
        register(tmp_path / "a", files(tmp_path / "a")).digest == register(tmp_path / "b", files(tmp_path / "b")).digest
    )


@pytest.mark.parametrize(
    ("gate", "holds"),
    [
        (Gate(metric="text_to_image/mean", stage="finetuned", minimum=0.40), True),
        (Gate(metric="text_to_image/mean", stage="finetuned", minimum=0.43), True),
        (Gate(metric="text_to_image/mean", stage="finetuned", minimum=0.44), False),
        (Gate(metric="text_to_image/mean", stage="t2i_policy", not_below="finetuned"), False),
        (Gate(metric="text_to_image/mean", stage="t2i_policy", not_below="finetuned", tolerance=0.02), True),
        (Gate(metric="questions/accuracy", stage="t2i_policy", not_below="finetuned", tolerance=0.02), False),
    ],
)
def test_a_gate_is_held_to_the_scores(gate: Gate, holds: bool) -> None:
    verdict = judge(gate, SCORES, [])
    assert verdict.holds is holds
    assert f"{gate.metric} of {gate.stage} is" in verdict.sentence


@pytest.mark.parametrize("limit", [{"minimum": 0.4}, {"not_below": "finetuned"}])
def test_a_score_that_is_no_number_holds_no_gate(limit: dict[str, Any]) -> None:
    scores = {"t2i_policy": {"loss": float("nan")}, "finetuned": {"loss": 0.1}}
    assert not judge(Gate(metric="loss", stage="t2i_policy", **limit), scores, []).holds


def test_the_bootstrap_decides_where_it_compared_the_metric_of_two_stages() -> None:
    gate = Gate(metric="text_to_image/mean", stage="t2i_policy", not_below="finetuned")
    compared = {
        "metric": "text_to_image/mean", "before": "finetuned", "after": "t2i_policy", "not_lower": True, "high": 0.01
    }  # fmt: skip
    assert judge(gate, SCORES, [compared]).holds
    assert not judge(gate, SCORES, [{**compared, "not_lower": False}]).holds
    assert not judge(gate, SCORES, [{**compared, "before": "continued"}]).holds


def test_a_part_of_a_benchmark_is_judged_by_its_own_numbers() -> None:
    """Counting fell from .50 to .10 while the mean held: the mean's comparison says nothing about counting."""
    scores = {"finetuned": {"text_to_image/counting": 0.5}, "t2i_policy": {"text_to_image/counting": 0.1}}
    compared = {"metric": "text_to_image/mean", "before": "finetuned", "after": "t2i_policy", "not_lower": True}
    gate = Gate(metric="text_to_image/counting", stage="t2i_policy", not_below="finetuned", tolerance=0.05)
    assert not judge(gate, scores, [compared]).holds
    assert judge(dataclasses.replace(gate, tolerance=0.4), scores, [compared]).holds


def test_with_a_tolerance_the_interval_must_reach_no_further_than_that_below() -> None:
    """The interval ends at -.015: lower, but not by more than .02. An interval that reaches above 0 is never lower."""
    compared = {
        "metric": "text_to_image/mean", "before": "finetuned", "after": "t2i_policy", "not_lower": False, "high": -0.015
    }  # fmt: skip
    gate = Gate(metric="text_to_image/mean", stage="t2i_policy", not_below="finetuned")
    assert not judge(gate, SCORES, [compared]).holds
    assert not judge(dataclasses.replace(gate, tolerance=0.01), SCORES, [compared]).holds
    assert judge(dataclasses.replace(gate, tolerance=0.02), SCORES, [compared]).holds
    with pytest.raises(UserError, match="tolerance without effect"):
        Gate(metric="text_to_image/mean", minimum=0.4, tolerance=0.02)


def test_the_compared_metric_is_the_headline_of_the_benchmark(tmp_path: Path) -> None:
    compared = {"benchmark": "text_to_image", "before": "finetuned", "after": "t2i_policy", "not_lower": True}
    protocols = {"t2i_policy": {"text_to_image": {"headline": "mean"}}}
    files = {"comparisons.json": json.dumps([compared]), "protocols.json": json.dumps(protocols)}
    (found,) = comparisons_of(artifact(tmp_path, "evaluation", files))
    assert found["metric"] == "text_to_image/mean"


@pytest.mark.parametrize(
    ("gate", "sentence"),
    [
        (
            Gate(metric="text_to_image/mean", stage="finetune", minimum=0),
            "no stage 'finetune' for a gate; did you mean 'fin",
        ),
        (
            Gate(metric="text_to_image/men", stage="finetuned", minimum=0),
            "no 'text_to_image/men'; did you mean 'text_to",
        ),
    ],
)
def test_a_gate_on_what_was_not_measured_is_one_sentence(gate: Gate, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        judge(gate, SCORES, [])


def test_a_gate_that_checks_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="checks nothing"):
        Gate(metric="text_to_image/mean")
    with pytest.raises(UserError, match="cannot name a model"):
        RegisterConfig(name="a/b")


def test_the_alias_moves_only_when_the_gates_hold(tmp_path: Path, inputs: dict[str, str]) -> None:
    gate = '[{{"metric": "text_to_image/mean", "stage": "finetuned", "minimum": {}}}]'
    good = register(tmp_path, inputs, gate.format(0.4))
    bad = register(tmp_path, inputs, gate.format(0.5))
    assert Sender(str(tmp_path)).send_all()
    client = connect(str(tmp_path))
    versions = {v.tags["arm.digest"]: v for v in client.search_model_versions("name='arm'")}
    assert versions.keys() == {good.digest, bad.digest}
    assert versions[bad.digest].tags["arm.gates"] == "not held"
    assert "is 0.430, but it must be at least 0.5" in versions[bad.digest].description
    assert client.get_model_version_by_alias("arm", "champion").version == versions[good.digest].version
    assert bad.counts == {"files": 4, "gates": 1, "gates_held": 0}


@pytest.mark.parametrize(("refused", "moves"), [("CC-BY-4.0", False), ("FLUX.1-dev-non-commercial", True)])
def test_the_alias_stays_when_a_part_carries_a_refused_licence(
    refused: str, moves: bool, tmp_path: Path, inputs: dict[str, str]
) -> None:
    config = json.dumps({"refused_licences": [refused]})
    made = jobs.run("register-model", output=str(tmp_path / "23-register-model"), config=config, inputs=inputs)
    release = json.loads(made.local("release.json").read_text())
    assert release["alias_moves"] is moves
    sentence = "but it is that of tokenizer." if not moves else "and no part carries it."
    assert sentence in release["gates"][0]["sentence"]


def test_a_part_without_its_folder_makes_no_release(tmp_path: Path, inputs: dict[str, str]) -> None:
    broken = {**inputs, "model": artifact(tmp_path / "other", "model", {"weights.bin": "x"}).url}
    with pytest.raises(UserError, match="holds no model/"):
        register(tmp_path, broken)


REPORT = {
    "training": [{"digest": "d" * 64}],
    "sets": {"geneval": {"items": 553, "contaminated": 42, "share": 0.0759}, "pope": {"items": 10, "contaminated": 0, "share": 0.0}},
}  # fmt: skip


def register_against(store: Path, inputs: dict[str, str], report: str, allowed: float) -> dict[str, Any]:
    (store / "contamination.json").write_text(report)
    config = json.dumps({"contamination": str(store / "contamination.json"), "max_contaminated_share": allowed})
    made = jobs.run("register-model", output=str(store / "23-register-model"), config=config, inputs=inputs)
    found: dict[str, Any] = json.loads(made.local("release.json").read_text())
    return found


def test_the_alias_stays_when_training_has_seen_too_much_of_a_test(tmp_path: Path, inputs: dict[str, str]) -> None:
    release = register_against(tmp_path, inputs, json.dumps(REPORT), 0.05)
    assert not release["alias_moves"]
    assert release["contamination"] == {"training": ["d" * 64], "shares": {"geneval": 0.0759, "pope": 0.0}}
    assert [(gate["gate"], gate["holds"]) for gate in release["gates"]] == [
        ("contamination/geneval", False), ("contamination/pope", True),
    ]  # fmt: skip
    assert release["gates"][0]["sentence"] == (
        "Training has seen 42 of the 553 items of geneval (7.59%), but at most 5.00% may be."
    )
    assert register_against(tmp_path, inputs, json.dumps(REPORT), 0.08)["alias_moves"]


def test_another_report_is_another_release_and_a_wrong_one_is_one_sentence(
    tmp_path: Path, inputs: dict[str, str]
) -> None:
    assert not register_against(tmp_path, inputs, json.dumps(REPORT), 0.05)["alias_moves"]
    clean = {**REPORT, "sets": {"geneval": {"items": 553, "contaminated": 0, "share": 0.0}}}
    assert register_against(tmp_path, inputs, json.dumps(clean), 0.05)["alias_moves"]
    with pytest.raises(UserError, match=r"contamination\.json is no report of check-contamination"):
        register_against(tmp_path, inputs, "{}", 0.05)
    with pytest.raises(UserError, match="go together; give both or neither"):
        RegisterConfig(max_contaminated_share=0.1)


def test_a_folder_instead_of_the_report_in_it_is_one_sentence(tmp_path: Path) -> None:
    for name in ("contamination.json", "contamination.html"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"{tmp_path} holds 2 files; name the one contamination.json"):
        read_contamination(str(tmp_path))


def test_a_release_names_the_benchmarks_that_rewarded_its_model(
    tmp_path: Path, inputs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "rewarded" not in json.loads(register(tmp_path, inputs).local("release.json").read_text())
    told = {"gedit_en": ["viescore_editing 1, asked of a-judge, in edit"]}
    files = {"model/config.json": "{}", "rewarded.json": json.dumps(told)}
    made = register(tmp_path / "b", {**inputs, "model": artifact(tmp_path / "b", "model", files).url})
    assert json.loads(made.local("release.json").read_text())["rewarded"] == told
    assert registration_event(made)["tags"]["arm.rewarded"] == "gedit_en"
    assert "No independent test of this model, which they rewarded: gedit_en." in capsys.readouterr().out
