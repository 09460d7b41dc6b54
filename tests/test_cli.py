"""The command line: every job with its config as flags, and every error as one sentence."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from made_up_jobs import MADE_UP, CountConfig

from arm import cli, command_line, jobs, release_verbs
from arm.config import from_json
from arm.evaluation import inference
from arm.evaluation.config import SamplingConfig
from arm.tokenizer.config import DetokenizerConfig


@pytest.fixture
def made_up_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jobs, "JOBS", MADE_UP)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    return


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints when it fails with exit code 1."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 1
    return capsys.readouterr().err


def test_alone_it_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed for verb in cli.VERBS)
    assert f"one of the {len(jobs.JOBS)} jobs" in printed


@pytest.mark.parametrize("sent", [True, False])
def test_the_address_of_the_tracker_is_shown_without_its_password(
    sent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.test:5000")
    monkeypatch.setattr("arm.tracking.sender.Sender.send_all", lambda self: sent)
    with contextlib.nullcontext() if sent else pytest.raises(SystemExit):
        cli.main(["tracking", "flush", "--store", str(tmp_path)])
    cli.main(["ui", "--store", str(tmp_path)])
    printed = "".join(capsys.readouterr())
    assert printed.count("http://…@mlflow.test:5000") == 2
    assert "secret" not in printed


def test_the_tracker_gets_the_address_of_its_database_where_nobody_else_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db.test/mlflow")
    monkeypatch.setattr(cli.os, "execve", lambda *arguments: started.extend(arguments))
    cli.main(["ui", "--store", str(tmp_path)])
    _, command, environment = started
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:secret@db.test/mlflow"
    assert "secret" not in " ".join(command)


def test_jobs_are_listed_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["jobs"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [job.name for job in jobs.JOBS]


def test_the_help_of_evaluate_model_names_every_benchmark_as_it_is_to_be_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from arm.evaluation.config import BENCHMARKS, OFFICIAL, EvaluateConfig

    with pytest.raises(SystemExit):
        cli.main(["evaluate-model", "--help"])
    assert "--benchmarks NAME,NAME" in (printed := capsys.readouterr().out)
    assert ",".join(EvaluateConfig().benchmarks) in "".join(printed.split())
    (text,) = [text for name, _, _, text in command_line.fields_of(EvaluateConfig) if name == "benchmarks"]
    named = text.replace(":", ",").replace(".", ",").split(",")
    assert {*BENCHMARKS, *OFFICIAL} <= {word.strip() for word in named}


@pytest.mark.usefixtures("made_up_jobs")
def test_flags_go_over_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--config", '{"num_units": 9, "factor": 4}', "--num-units", "2", "--resources", '{"threads": 1}']
    cli.main(["count", "--output", str(tmp_path / "x"), *flags])
    *metrics, folder = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in metrics] == ["base"]
    found = json.loads((Path(folder) / "manifest.json").read_text())["config"]
    assert found == {"factor": 4.0, "how": "well", "num_units": 2, "paths": []}


@pytest.mark.usefixtures("made_up_jobs")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cuont"], "There is no verb or job 'cuont'; did you mean 'count'?"),
        (["count"], "The following arguments are required: --output; see `arm count --help`."),
        (["count", "--output", "x", "--unit", "1"], "Unrecognized arguments: --unit 1; see `arm count --help`."),
        (["count", "--output", "x", "--num-units", "0"], "CountConfig.num_units is 0; give at least 1."),
        (["count", "--output", "x", "--num-units", "many"], "CountConfig.num_units must be int, not 'many'."),
        (
            ["count", "--output", "x", "--config", '{"num_unit": 1}'],
            "CountConfig has no field 'num_unit'; did you mean 'num_units'?",
        ),
        (
            ["count", "--output", "gs://x"],
            "The store 'gs://x' has an unknown scheme; give a local folder or s3://bucket/prefix.",
        ),
        (["ask", "absent.png", "how many?", "--release", "."], "There is no image at 'absent.png'."),
        (
            ["generate", "a circle", "--output", "drawn"],
            "--output 'drawn' does not end like an image; give a name such as drawn.png.",
        ),
        (["generate", "a circle", "--top-p", "2"], "SamplingConfig.top_p is 2.0; it must lie in (0, 1]."),
        (["generate", "a circle", "--temperature", "hot"], "SamplingConfig.temperature must be float, not 'hot'."),
        (
            ["generate", "a circle", "--guidance-image", "2"],
            "--guidance-image has no effect without a source image: leave it out.",
        ),
        (
            ["generate", "a circle", "--image-size", "0"],
            "Argument --image-size: '0' is not a whole number of at least 1; see `arm generate --help`.",
        ),
        (
            ["generate", "a circle", "--output", "drawn.txt"],
            "--output 'drawn.txt' does not end like an image; give a name such as drawn.png.",
        ),
    ],
)
def test_a_wrong_command_is_one_sentence(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert failure(arguments, capsys) == sentence + "\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ask", "text.png", "how many?"], "text.png cannot be read as an image (cannot identify image file 'text.png')."),
        (["edit", "text.png", "more"], "text.png cannot be read as an image (cannot identify image file 'text.png')."),
        (["ask", ".", "how many?"], "There is no image at '.'."),
        (["generate", "a circle", "--output", "folder.png"], "--output 'folder.png' is a folder; give the name of a file in it."),
        (
            ["edit", "good.png", "more", "--output", "absent/x.png"],
            "--output 'absent/x.png' cannot be written: {folder}/absent is no writable folder.",
        ),
    ],
)  # fmt: skip
def test_images_are_checked_before_a_model_is_looked_for(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    assert failure(arguments, capsys) == sentence.format(folder=tmp_path) + "\n"


def test_sampling_may_be_said_of_images_and_the_length_of_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not said is the paper's; an edit is drawn at the temperature that was given, too."""
    asked: list[tuple[SamplingConfig, dict[str, Any]]] = []

    def load(place: str, *, sampling: SamplingConfig, **others: Any) -> str:
        asked.append((sampling, others))
        return "loaded"

    picture = PIL.Image.new("RGB", (4, 4))
    picture.save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(release_verbs, "_release", lambda options: "release")
    monkeypatch.setattr(inference, "load_release", load)
    for verb in ("generate", "edit"):
        monkeypatch.setattr(inference, verb, lambda release, *_, seed: picture)
    monkeypatch.setattr(inference, "ask", lambda *_: "two")
    cli.main(["generate", "a circle", "--temperature", "0.7", "--top-k", "9", "--image-size", "64"])
    cli.main(["edit", "a.png", "more", "--guidance-image", "2", "--dtype", "auto"])
    cli.main(["ask", "a.png", "how many?", "--max-tokens", "4"])
    assert asked == [
        (SamplingConfig(temperature=0.7, top_k=9), {"dtype": "float32", "image_size": 64}),
        (SamplingConfig(guidance_image=2.0), {"dtype": "auto", "image_size": None}),
        (SamplingConfig(), {"dtype": "float32", "answer_tokens": 4}),
    ]


@pytest.mark.usefixtures("made_up_jobs")
def test_an_input_without_manifest_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(["count", "--output", str(tmp_path / "x"), "--source", str(tmp_path)], capsys)
    assert (
        message
        == f"{tmp_path} holds no manifest.json: not an artifact, or its job has not finished; run that job first.\n"
    )


@pytest.mark.usefixtures("made_up_jobs")
def test_a_stopped_command_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.VERBS, "jobs", ("", interrupted))
    with pytest.raises(SystemExit) as caught:
        cli.main(["jobs"])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "stopped; run the same command to go on\n"


@pytest.mark.usefixtures("made_up_jobs")
def test_lineage_is_printed_a_line_an_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = jobs.run("count", output=str(tmp_path / "first"))
    jobs.run("count", output=str(tmp_path / "second"), inputs={"source": first.url})
    cli.main(["lineage", "upstream", str(tmp_path / "second"), "--store", str(tmp_path)])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split() == [first.digest[:12], "numbers", "count", first.folder.url]


@pytest.mark.parametrize("job", jobs.JOBS, ids=lambda job: job.name)
def test_every_field_of_every_job_is_explained(job: jobs.Job) -> None:
    unexplained = [name for name, _, _, text in command_line.fields_of(jobs.resolve(job.config)) if len(text) < 5]
    assert unexplained == []


def test_a_nested_field_is_shown_with_the_default_of_its_holder() -> None:
    """FlowConfig's own width is 1024, that of DetokenizerConfig's flow 1152."""
    shown = {name: default for name, default, _, _ in command_line.fields_of(DetokenizerConfig)}
    assert shown["flow.width"] == 1152


@pytest.mark.parametrize("job", jobs.JOBS, ids=lambda job: job.name)
def test_every_job_has_help(job: jobs.Job, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([job.name, "--help"])
    assert caught.value.code == 0
    assert job.purpose.split()[0] in capsys.readouterr().out


def test_the_default_and_the_docstring_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "JOBS", MADE_UP)
    with pytest.raises(SystemExit):
        cli.main(["count", "--help"])
    assert "--num-units INT           How many files to write. (default: 3)" in capsys.readouterr().out


@dataclass(frozen=True, kw_only=True)
class Nested:
    """A config within a config."""

    inner: CountConfig = field(default_factory=CountConfig)
    source: str = "7"
    """Shares its name with an input."""


def test_nested_fields_have_dots_and_text_stays_text() -> None:
    parser = cli.Parser(prog="x")
    parser.add_argument("--source")
    command_line.add_fields(parser, Nested)
    values = vars(parser.parse_args(["--inner.num-units", "5", "--config.source", "08", "--source", "DIR"]))
    found = from_json(Nested, command_line.collect(Nested, "{}", values))
    assert found == Nested(inner=CountConfig(num_units=5), source="08")
    assert values["source"] == "DIR"
