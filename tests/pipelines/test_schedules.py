"""schedules.yaml becomes KFP's requests for recurring runs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kfp
import kfp_server_api
import pytest
import yaml

from arm import recipes
from arm.errors import UserError
from pipelines import schedules
from pipelines.run import PIPELINES

GOLDEN = Path(__file__).parent / "golden/schedules.json"


def test_the_requests_equal_their_golden_file() -> None:
    requests = [schedules.to_request(schedule) for schedule in schedules.read()]
    assert requests == json.loads(GOLDEN.read_text())


def test_every_field_of_a_request_is_one_that_the_server_knows() -> None:
    for schedule in schedules.read():
        request = schedules.to_request(schedule)
        assert set(request) <= set(kfp_server_api.V2beta1RecurringRun.attribute_map.values())
        assert request["max_concurrency"] == "1"
        assert request["no_catchup"] is True
        assert len(request["trigger"]["cron_schedule"]["cron"].split()) == 6


def test_schedules_name_recipes_and_pipelines_that_exist() -> None:
    for schedule in schedules.read():
        assert schedule.recipe in recipes.RECIPES
        assert schedule.pipeline in PIPELINES


def test_a_cron_of_five_fields_is_refused_in_one_sentence(tmp_path: Path) -> None:
    values = {"name": "n", "description": "d", "pipeline": "full", "recipe": "small", "store": "s3://arm/small"}
    path = tmp_path / "schedules.yaml"
    path.write_text(yaml.safe_dump([{**values, "cron": "0 3 * * 1"}]))
    with pytest.raises(UserError, match="give six fields, seconds first"):
        schedules.read(path)


def test_a_schedule_adds_to_earlier_crawls_and_asks_again_for_failures(tmp_path: Path) -> None:
    values = {"name": "n", "description": "d", "pipeline": "full", "recipe": "small", "store": "s3://arm/small"}
    path = tmp_path / "schedules.yaml"
    path.write_text(yaml.safe_dump([{**values, "cron": "0 0 3 * * 1", "earlier": "s3://arm/small", "attempt": 2}]))
    (schedule,) = schedules.read(path)
    parameters = schedules.to_request(schedule)["runtime_config"]["parameters"]
    assert parameters == {"store": "s3://arm/small", "earlier": "s3://arm/small", "attempt": 2}
    path.write_text(yaml.safe_dump([{**values, "cron": "0 0 3 * * 1", "attempt": 2}]))
    with pytest.raises(UserError, match="from 2 on the store of the attempts before"):
        schedules.read(path)


class Server:
    """A KFP client over 250 recurring runs of the experiment `arm`, of which the last has the name of the schedule, and
    one of that name in another experiment."""

    def __init__(self) -> None:
        self.runs = [SimpleNamespace(display_name=f"r{i}", recurring_run_id=f"{i}", experiment="e") for i in range(249)]
        for run, experiment in (("mine", "e"), ("elsewhere", "other")):
            self.runs.append(SimpleNamespace(display_name="n", recurring_run_id=run, experiment=experiment))
        self.asked: list[str] = []

    def create_experiment(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="e")

    def list_recurring_runs(
        self, page_token: str = "", page_size: int = 10, experiment_id: str | None = None
    ) -> kfp_server_api.V2beta1ListRecurringRunsResponse:
        start = int(page_token or 0)
        fit = [run for run in self.runs if experiment_id in (None, run.experiment)]
        token = str(start + page_size) if start + page_size < len(fit) else None
        page = fit[start : start + page_size]
        return kfp_server_api.V2beta1ListRecurringRunsResponse(recurring_runs=page, next_page_token=token)

    def create_recurring_run(self, experiment: str, name: str, **options: Any) -> None:
        self.asked.append(f"create {name} in {experiment}")

    def delete_recurring_run(self, recurring_run_id: str) -> None:
        self.asked.append(f"delete {recurring_run_id}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(kfp, "Client", lambda host: made)
    monkeypatch.setattr("pipelines.run.compile_to", lambda folder, *_, **__: folder / "full.yaml")
    return made


WEEKLY = schedules.Schedule(
    name="n", description="d", pipeline="full", recipe="small", cron="0 0 3 * * 1", store="s3://arm/small"
)


def test_a_schedule_replaces_the_one_of_its_name_in_its_experiment_wherever_it_is_listed(server: Server) -> None:
    schedules.create("http://kfp.test", [WEEKLY])
    assert server.asked == ["create n in e", "delete mine"]


def test_a_schedule_that_cannot_be_created_leaves_the_old_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise kfp_server_api.ApiException(status=500)

    monkeypatch.setattr(server, "create_recurring_run", refuse)
    server.runs = server.runs[-2:]
    with pytest.raises(kfp_server_api.ApiException):
        schedules.create("http://kfp.test", [WEEKLY])
    assert server.asked == []
