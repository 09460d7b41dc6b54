"""What the README says is so: its commands exist, its table and tree are the code's, its links lead somewhere."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
sys.path.append(str(ROOT / "docs"))

import build  # noqa: E402

from arm import cli, jobs, recipes  # noqa: E402
from pipelines import run, schedules  # noqa: E402


def commands() -> list[str]:
    """Every line of the README's shell blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def starting(prefix: str) -> list[str]:
    """The README's commands that start so, without that start."""
    return [command.removeprefix(prefix).strip() for command in commands() if command.startswith(prefix)]


def test_every_command_is_of_a_kind_that_is_checked_here() -> None:
    kinds = (
        "make ",
        ".venv/bin/arm ",
        ".venv/bin/python -m pipelines.run ",
        ".venv/bin/python -m pipelines.schedules ",
    )
    other = [command for command in commands() if not command.startswith(kinds)]
    assert other == ["kubectl apply -k infra/kubernetes/overlays/gpu"]
    assert (ROOT / "infra/kubernetes/overlays/gpu/kustomization.yaml").is_file()


def test_every_make_target_exists_and_make_alone_lists_them() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE))
    named = {*starting("make "), *re.findall(r"`make ([a-z-]+)`", README)}
    assert {"demo", "test", "ui"} <= named
    assert named <= targets


@pytest.mark.parametrize("command", starting(".venv/bin/arm "))
def test_an_arm_command_has_a_verb_or_job_and_flags_that_exist(command: str) -> None:
    verb, *rest = shlex.split(command)
    assert verb in cli.VERBS or verb in [job.name for job in jobs.JOBS]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code in (0, None)
    for flag in (word for word in rest if word.startswith("--") and word != "--help"):
        assert flag in shown.getvalue(), command


def test_arm_jobs_lists_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["jobs"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [job.name for job in jobs.JOBS]


@pytest.mark.parametrize("command", starting(".venv/bin/python -m pipelines.run "))
def test_a_pipeline_command_reaches_the_runner(command: str) -> None:
    with mock.patch.object(run, "run_here") as here, mock.patch.object(run, "submit") as there:
        run.main(shlex.split(command))
    assert here.call_count + there.call_count == 1


def test_the_schedules_command_reaches_the_server() -> None:
    with mock.patch.object(schedules, "create") as create:
        schedules.main(shlex.split(starting(".venv/bin/python -m pipelines.schedules ")[0]))
    assert create.call_args.args[0] == "https://kubeflow.example"


def test_the_table_of_jobs_is_the_codes() -> None:
    assert build.job_table() in README, "run `make docs`"


def test_the_tree_has_a_line_for_every_file() -> None:
    shown = re.search(r"<!-- tree -->\n(.*?)<!-- /tree -->", README, re.DOTALL)
    assert shown
    named = [line.split()[0] for line in shown[1].splitlines() if line.startswith("  ")]
    expected = [line.split()[0] for line in build.tree().splitlines() if line.startswith("  ")]
    assert named == expected, "run `make docs`"


def test_every_file_says_in_its_first_line_what_it_is() -> None:
    files = [path for folder in ("arm", "pipelines", "components") for path in (ROOT / folder).rglob("*.py")]
    silent = [path for path in files if path.name != "__init__.py" and not build.summary(path)]
    assert not silent


def test_the_recipes_of_the_readme_are_those_there_are() -> None:
    section = README.split("## Recipes")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    assert named == list(recipes.RECIPES)


def test_links_lead_to_files_that_exist() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_library_example_names_things_that_exist() -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example
    with mock.patch.object(jobs, "run") as called:
        exec(compile(example[1], "README.md", "exec"), {"print": lambda *_: None})
    job = jobs.find(called.call_args.args[0])
    assert set(called.call_args.kwargs["inputs"]) <= {item.name for item in job.inputs}


def test_the_reference_covers_every_job_and_field() -> None:
    text = build.reference()
    assert all(f"## {job.name}\n" in text for job in jobs.JOBS)
    assert "| `min_caption_words` | `3` | COYO: 3. |" in text
