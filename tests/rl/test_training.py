"""The job: what it publishes, that a kill changes nothing, and that it pauses and goes on with its judge."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from one_run import digests, make, run  # type: ignore[import-not-found]

from arm.data.images import encode_image, open_image
from arm.data.shards import write_shard
from arm.errors import ServiceError
from arm.records import Sample, Text, make_uid
from arm.rl import training

HERE = Path(__file__).parent


class Judge:
    """Likes code 3; can be told to kill a process, or to fail, from its nth call on."""

    def __init__(self) -> None:
        self.calls, self.kill_at, self.fail_from = 0, 0, 10**9
        self.victim: subprocess.Popen[bytes] | None = None
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply({"judge": "t"})

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.reply(judge.judge(request))

            def reply(self, values: dict[str, Any]) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(values).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def judge(self, request: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.calls == self.kill_at and self.victim:
            os.kill(self.victim.pid, signal.SIGKILL)
        if self.calls >= self.fail_from:
            return {"outcome": "unscorable", "reason": "out of order"}
        image = PIL.Image.open(io.BytesIO(base64.b64decode(request["image"])))
        score = float((np.asarray(image)[..., 0] // 16 == 3).mean())
        return {"outcome": "ok", "score": score, "strict": score == 1, "parts": {}, "reason": ""}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def run_apart(self, folder: Path, output: Path) -> int:
        """Run the job in a process of its own, which this judge may kill: its exit status."""
        paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
        env = {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "ARM_JUDGE_ADDRESS": self.address}
        self.victim = subprocess.Popen([sys.executable, str(HERE / "one_run.py"), str(folder), str(output)], env=env)
        return self.victim.wait(timeout=600)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    found = Judge()
    monkeypatch.setenv("ARM_JUDGE_ADDRESS", found.address)
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Inputs, and the output of an undisturbed run in `whole`."""
    folder = tmp_path_factory.mktemp("policy")
    make(folder)
    with pytest.MonkeyPatch.context() as patch:
        found = Judge()
        patch.setenv("ARM_JUDGE_ADDRESS", found.address)
        patch.setattr(training, "load_renderer", training.load_renderer)
        run(folder, folder / "whole")
        found.server.shutdown()
        found.server.server_close()
        yield folder
    torch.use_deterministic_algorithms(False)


def test_the_job_publishes_a_model_curves_and_pictures(made: Path) -> None:
    names = set(digests(made / "whole"))
    assert {"model/config.json", "model/model.safetensors", "model/vocabulary.json", "model/tokenizer.json"} <= names
    assert {"samples/step-000000.png", "samples/step-000003.png", "samples/step-000005.json"} <= names
    rows = [json.loads(line) for line in (made / "whole" / "curves.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"edit/reward/mean", "text_to_image/score/std", "kl", "gap/absolute", "ratio/p99"} <= set(rows[0])
    assert rows[0]["gap/absolute"] < 0.02
    assert rows[0]["kl"] == 0 < rows[-1]["kl"]
    shown = json.loads((made / "whole" / "samples" / "step-000000.json").read_text())
    assert {picture["prompt"].split(" ")[0] for picture in shown} == {"two", "go"}


def test_a_source_that_is_cut_off_is_dropped_and_the_run_goes_on(made: Path, judge: Judge, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "in", ignore=shutil.ignore_patterns("whole"))
    torn = encode_image(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)).data[:600]
    parts = (open_image(torn), Text(text="go torn", role="instruction"))
    sample = Sample(uid=make_uid("torn"), task="edit", parts=parts, source="p")
    write_shard(tmp_path / "in/prompts/shards/p-00001.tar", [sample])
    outcome = run(tmp_path / "in", tmp_path / "out", steps=1, prompts_per_step=20)
    assert outcome.counts["dropped/bad_image"] == 1
    assert outcome.counts["steps_skipped"] == 0


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(made: Path, judge: Judge, tmp_path: Path) -> None:
    for judge.kill_at in (20, 40, 25):  # in the 2nd step; in the 3rd after step 1; in the 2nd after step 3
        judge.calls = 0
        assert judge.run_apart(made, tmp_path / "killed") == -signal.SIGKILL
    judge.kill_at = 0
    assert judge.run_apart(made, tmp_path / "killed") == 0
    assert digests(tmp_path / "killed") == digests(made / "whole")


def test_a_judge_that_fails_pauses_the_run_and_a_mended_one_lets_it_go_on(
    made: Path, judge: Judge, tmp_path: Path
) -> None:
    judge.fail_from = 16 * 3 + 1
    with pytest.raises(ServiceError, match=r"16 of 16 rewards are missing after 3 steps \(16 times: unscorable: out"):
        run(made, tmp_path / "paused")
    judge.fail_from, judge.calls = 10**9, 0
    run(made, tmp_path / "paused")
    assert judge.calls == 16 * 3
    assert digests(tmp_path / "paused") == digests(made / "whole")
