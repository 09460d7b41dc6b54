"""schedules.yaml becomes KFP's requests for recurring runs."""

import json
from pathlib import Path

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
