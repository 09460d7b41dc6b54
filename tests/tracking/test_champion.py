"""A release is held against the one that has the alias: item by item where both recorded items, else by a tolerance."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arm import jobs
from arm.errors import UserError
from arm.evaluation.champion import compare_with
from arm.evaluation.pairing import paired, paired_on
from arm.manifest import Manifest, entries_of
from arm.storage import LocalFolder
from arm.tracking.config import Gate, RegisterConfig
from arm.tracking.registration import Against, judge, read_refusals
from arm.tracking.sender import Sender, connect

GATE = {"metric": "geneval/overall", "stage": "joint_policy", "not_below": "champion"}


@pytest.fixture(autouse=True)
def own_tracker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "ARM_PIPELINE_KEY", "ARM_LINEAGE_URL"):
        monkeypatch.delenv(name, raising=False)
    return


def items(strict: str, *, groups: int = 2, images: int = 1) -> list[dict[str, Any]]:
    """ "1011" -> four prompts that are right, wrong, right, right in all of their images, in groups in turn."""
    return [
        {"uid": f"{n:05d}/{i:04d}", "group": f"tag{n % groups}", "outcome": "ok", "strict": c == "1", "score": float(c)}
        for n, c in enumerate(strict) for i in range(images)
    ]  # fmt: skip


def artifact(folder: Path, kind: str, files: dict[str, str]) -> Manifest:
    place = LocalFolder(folder / kind / "k")
    for name, text in files.items():
        place.write(name, text.encode())
    made = Manifest(
        kind=kind, job=f"make-{kind}", version=1, key=kind, config={}, inputs={}, counts={}, metrics={},
        files=entries_of(place), folder=place,
    )  # fmt: skip
    place.write("manifest.json", made.to_json())
    return made


PROTOCOL = {"mode": "official", "judge": "mask2former", "data_files": {"evaluation_metadata.jsonl": "5c48e0813e81"}}


def evaluation(
    folder: Path, strict: str, *, refused: str = "", recorded: float | None = None, images: int = 1, **protocol: Any
) -> Manifest:
    """An evaluation with GenEval's items, its overall score in scores.json unless it is refused."""
    value = strict.count("1") / len(strict) if recorded is None else recorded
    scores = {"joint_policy": {} if refused else {"geneval/overall": value}}
    rows = "".join(json.dumps(row) + "\n" for row in items(strict, images=images))
    own = {"benchmark": "geneval", "headline": "overall", "refused": refused or None, "protocol": PROTOCOL | protocol}
    return artifact(folder, "evaluation", {
        "scores.json": json.dumps(scores), "benchmarks/joint_policy/geneval/items.jsonl": rows,
        "benchmarks/joint_policy/geneval/scores.json": json.dumps(own),
    })  # fmt: skip


def register(store: Path, name: str, strict: str, gates: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Register a model of that name with such items; returns release.json."""
    made = artifact(store / name, "model", {"model/w": name})
    inputs = {
        "model": made.url,
        "tokenizer": artifact(store / name, "tokenizer", {"tokenizer/w": "t"}).url,
        "detokenizer": artifact(store / name, "detokenizer", {"detokenizer/w": "d"}).url,
        "evaluation": evaluation(store / name, strict, **options).url,
    }
    config = json.dumps({"gates": gates})
    release = jobs.run("register-model", output=str(store / "23-register-model"), config=config, inputs=inputs)
    found: dict[str, Any] = json.loads(release.local("release.json").read_text())
    return found | {"digest": release.digest}


def champion_of(store: Path) -> str:
    assert Sender(str(store)).send_all()
    return str(connect(str(store)).get_model_version_by_alias("arm", "champion").tags["arm.digest"])


def test_the_alias_moves_only_to_what_is_not_lower_than_its_holder(tmp_path: Path) -> None:
    """Of 40 items 20 right, then 4 of those wrong as well, then 24 right: the second is lower, the third is not."""
    half = "10" * 20
    first = register(tmp_path, "first", half, [GATE])
    assert first["gates"][0]["sentence"] == (
        "geneval/overall of joint_policy is 0.500 and no release holds the alias yet: the gate holds."
    )
    assert champion_of(tmp_path) == first["digest"]
    worse = register(tmp_path, "worse", "0" * 20 + half[20:], [GATE])
    assert (worse["alias_moves"], worse["champion"]) == (False, first["digest"])
    assert worse["gates"][0]["sentence"].startswith(
        "geneval/overall of joint_policy is 0.250, but it must not be lower than the champion's 0.500 (-0.250, 95% "
    )
    assert "paired over 40 items" in worse["gates"][0]["sentence"]
    assert champion_of(tmp_path) == first["digest"]
    better = register(tmp_path, "better", half[:32] + "1" * 8, [GATE])
    assert better["alias_moves"]
    assert champion_of(tmp_path) == better["digest"]
    again = register(tmp_path, "better", half[:32] + "1" * 8, [GATE])
    assert again["digest"] == better["digest"]  # not held against itself: the same release, returned
    _late_one_is_left_alone(tmp_path, better["digest"])


def _late_one_is_left_alone(store: Path, holder: str) -> None:
    """A release that was held against no champion finds one when its registration is sent."""
    sender = Sender(str(store))
    sender._client = connect(str(store))
    sender._register("", {
        "event": "register", "name": "arm", "alias": "champion", "source": "x", "digest": "late", "champion": "",
        "description": "", "tags": {"arm.digest": "late", "arm.gates": "held"},
    })  # fmt: skip
    assert champion_of(store) == holder
    (late,) = [v for v in sender._client.search_model_versions("name='arm'") if v.tags["arm.digest"] == "late"]
    assert late.tags["arm.gates"] == "not held"
    assert "The alias champion stays: version 3 has taken it since" in late.description


def test_four_images_of_a_prompt_are_one_unit_beside_the_champion(tmp_path: Path) -> None:
    """Of 20 prompts four are lost and one is gained: -0.15. Taken for 80 independent images that would be shown lower."""
    old, new = "0" + "1" * 19, "1" + "0" * 4 + "1" * 15
    champion = evaluation(tmp_path / "a", old, images=4)
    release = artifact(
        tmp_path / "b", "release", {f"evaluation/{e.path}": champion.local(e).read_text() for e in champion.files}
    )
    found = compare_with(release, evaluation(tmp_path / "c", new, images=4), [Gate(**GATE)])[Gate(**GATE)]
    assert (found.num_items, found.not_lower) == (20, True)
    assert found.difference == pytest.approx(-0.15)
    assert found.high > 0


def test_without_items_the_recorded_scores_decide_within_the_tolerance() -> None:
    gate = Gate(metric="pope/mean_f1", stage="a", not_below="champion", tolerance=0.02)
    scores = {"a": {"pope/mean_f1": 0.85}}
    assert judge(gate, scores, [], champion=Against(digest="d", value=0.86)).holds
    lower = judge(gate, scores, [], champion=Against(digest="d", value=0.88))
    assert not lower.holds
    assert lower.sentence == (
        "pope/mean_f1 of a is 0.850, but it must not be lower than the champion's 0.880 by more than 0.02."
    )


def test_a_champion_that_recorded_no_such_score_shows_nothing(tmp_path: Path) -> None:
    gate = Gate(metric="geneval/overall", stage="joint_policy", not_below="champion")
    found = compare_with(artifact(tmp_path / "a", "release", {}), evaluation(tmp_path / "b", "10"), [gate])[gate]
    verdict = judge(gate, {"joint_policy": {"geneval/overall": 0.5}}, [], champion=found)
    assert not verdict.holds
    assert "the champion recorded no such score, so nothing shows that it is not lower" in verdict.sentence


@pytest.mark.parametrize(
    ("protocol", "why"),
    [
        ({"judge": "grounding-dino"}, "judge: grounding-dino here, mask2former there"),
        ({"mode": "corrected"}, "mode: corrected here, official there"),
        ({"judge_settings": {"threshold": 0.5}}, "judge settings: threshold 0.5 here, not stated there"),
        ({"data_files": {"evaluation_metadata.jsonl": "93bb00000000"}},
         "data files: evaluation_metadata.jsonl 93bb00000000 here, 5c48e0813e81 there"),
        ({"data_files": {}}, "data files: not stated here, evaluation_metadata.jsonl 5c48e0813e81 there"),
    ],
)  # fmt: skip
def test_what_was_not_measured_alike_is_not_held_against_the_champion(
    tmp_path: Path, protocol: dict[str, Any], why: str
) -> None:
    """All right against all wrong: no number shows it, and the sentence names the field with both values."""
    register(tmp_path, "first", "0" * 40, [GATE])
    assert champion_of(tmp_path)
    release = register(tmp_path, "other", "1" * 40, [GATE], **protocol)
    assert not release["alias_moves"]
    assert release["gates"][0]["sentence"] == (
        "geneval/overall of joint_policy is 1.000, but the champion was measured otherwise "
        f"({why}; measure both alike), so nothing shows that it is not lower."
    )


def test_our_own_benchmarks_too_must_have_been_measured_alike(tmp_path: Path) -> None:
    record = {"dataset": "d", "checker": "verifier", "sampling": {"guidance_text": 1.5}, "headline": "mean"}
    gate = Gate(metric="text_to_image/mean", stage="joint_policy", not_below="champion")

    def holder(name: str, prefix: str, **other: Any) -> Manifest:
        protocols = {"joint_policy": {"text_to_image": record | other}}
        scores = {"joint_policy": {"text_to_image/mean": 0.5}}
        files = {f"{prefix}scores.json": json.dumps(scores), f"{prefix}protocols.json": json.dumps(protocols)}
        return artifact(tmp_path / name, "release" if prefix else "evaluation", files)

    champion = holder("old", "evaluation/")
    assert compare_with(champion, holder("same", ""), [gate])[gate].value == 0.5
    other = compare_with(champion, holder("other", "", sampling={"guidance_text": 3.0}), [gate])[gate]
    assert "(sampling: guidance_text 3.0 here, 1.5 there; measure both alike)" in other.why_not
    larger = compare_with(champion, holder("larger", "", images={"image_size": 1024}), [gate])[gate]
    assert "(images: image_size 1024 here, not stated there; measure both alike)" in larger.why_not


def test_a_drop_within_the_tolerance_is_not_lower_than_the_champion(tmp_path: Path) -> None:
    """Of 40 items 4 are wrong that were right: -.1, an interval wholly below 0."""
    before, after = "1" * 40, "1" * 36 + "0" * 4
    register(tmp_path, "first", before, [GATE])
    assert champion_of(tmp_path)
    assert not register(tmp_path, "lower", after, [{**GATE, "tolerance": 0.001}])["alias_moves"]
    release = register(tmp_path, "lower", after, [{**GATE, "tolerance": 0.1}])
    assert release["alias_moves"]
    assert "paired over 40 items): the gate holds." in release["gates"][0]["sentence"]


def test_a_gate_on_a_refused_headline_says_that_it_was_refused_and_why(tmp_path: Path) -> None:
    reason = "3 of 40 items have no score (1 failed)"
    refused = evaluation(tmp_path, "10", refused=reason)
    assert read_refusals(refused) == {("joint_policy", "geneval/overall"): reason}
    release = register(tmp_path, "x", "10", [{**GATE, "not_below": None, "minimum": 0.1}], refused=reason)
    assert not release["alias_moves"]
    assert release["gates"][0]["sentence"] == f"geneval/overall of joint_policy was refused: {reason}."


def test_a_metric_is_paired_only_where_it_is_a_mean_of_the_items() -> None:
    """Right 3 of 4 and 2 of 4: micro .75 and .5; in groups (2, 2) the same; a made-up .7 is no mean of them."""
    before, after = items("1110"), items("1010")
    found = paired_on("overall", before, after, 0.75, 0.5)
    assert found is not None
    assert (found.value, found.num_items) == (-0.25, 4)
    assert paired_on("overall", before, after, 0.7, 0.5) is None
    percent = paired_on("overall", before, after, 75.0, 50.0)
    assert percent is not None
    assert percent.value == -25.0
    group = paired_on("tag1", before, after, 0.5, 0.0)  # of tag1: 1, 0 and 0, 0
    assert group is not None
    assert (group.value, group.num_items) == (-0.5, 2)


def test_only_common_items_that_both_scored_are_paired() -> None:
    before = [*items("11"), {"uid": "alone", "group": "tag0", "outcome": "ok", "strict": True, "score": 1.0}]
    after = [items("11")[0], {**items("11")[1], "outcome": "failed"}]
    found = paired(before, after)
    assert found is not None
    assert (found.value, found.num_items) == (0.0, 1)
    assert paired(before[2:], after) is None


def test_a_tracker_that_does_not_say_who_the_champion_is_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arm.tracking.alias import registered_versions

    def refuse(store: str) -> None:
        raise ConnectionError

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.test:5000")
    monkeypatch.setattr("arm.tracking.sender.connect", refuse)
    with pytest.raises(UserError, match=r"names the champion, but http://…@mlflow\.test:5000 does not say which"):
        registered_versions(RegisterConfig(name="arm"), str(tmp_path))


def test_a_champion_without_a_gate_is_refused(tmp_path: Path) -> None:
    from arm.tracking.alias import find_champion

    with pytest.raises(UserError, match="no gate has not_below=champion"):
        find_champion(RegisterConfig(), {"champion": "x"}, str(tmp_path))
    (tmp_path / "mlflow.db").write_text("this is no database")
    with pytest.raises(UserError, match="give the release with --champion"):
        find_champion(RegisterConfig(gates=(Gate(**GATE),)), {}, str(tmp_path))
