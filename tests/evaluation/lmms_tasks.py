"""Tasks of lmms-eval on made-up rows: its own YAML, prompts and metrics, our pictures. Used where lmms-eval is there."""

import importlib.util
import io
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
REPLIES = ("Yes", "No", "yes", "yes.", "no", "A", "B", "C", "D", "B. a dog", "a cow", "nothing of that")
"""What is said of a picture whose corner is that red."""
Row = dict[str, Any]
ROUNDS = """
def visuals(doc):
    return [doc["image"]]


def text(doc, lmms_eval_specific_kwargs=None, previous_output=None, round_idx=None, previous_round_info=None):
    if round_idx is None:
        return doc["question"]
    question = f"You said {previous_output[-1]}. Are you sure?"
    return visuals(doc), question, round_idx == 2, previous_output, None


def judge(doc, results):
    return {"both": float(results[0] == [doc["says"]] * 2)}
"""


def is_there() -> bool:
    """Whether lmms-eval can be started by this interpreter."""
    return importlib.util.find_spec("lmms_eval") is not None


def picture(says: str) -> bytes:
    """A PNG of which a model that looks at it says that."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (12, 12), (REPLIES.index(says), 90, 20 * REPLIES.index(says))).save(file, "PNG")
    return file.getvalue()


def pope_rows(said: Sequence[str], wanted: Sequence[str]) -> list[Row]:
    """Questions of POPE with the answers that they will get."""
    return [
        {"question_id": str(n), "question": f"Is there a dog in image {n}?", "answer": right, "image": picture(says)}
        for n, (says, right) in enumerate(zip(said, wanted, strict=True))
    ]


def mme_rows(task: str, said: Sequence[str], wanted: Sequence[str]) -> list[Row]:
    """Two questions an image, as in MME."""
    return [
        {
            "question_id": f"{task}/{n // 2}.png", "question": f"Is it {n}? Please answer yes or no.", "answer": right,
            "category": task, "image": picture(says),
        }
        for n, (says, right) in enumerate(zip(said, wanted, strict=True))
    ]  # fmt: skip


def mmbench_rows(circles: Sequence[Sequence[tuple[str, str]]]) -> list[Row]:
    """Circles of (said, right letter): the rotations of one question each."""
    return [
        {
            "index": 1_000_000 * turn + number, "question": "What is it?", "hint": "nan", "A": "a cat", "B": "a dog",
            "C": "a cow", "D": "a hen", "answer": right, "category": "identity", "L2-category": "coarse", "source": "x",
            "split": "dev", "image": picture(says),
        }
        for number, circle in enumerate(circles) for turn, (says, right) in enumerate(circle)
    ]  # fmt: skip


def seed_rows(
    said: Sequence[str], wanted: Sequence[str], choices: Sequence[str] = ("cat", "dog", "cow", "hen")
) -> list[Row]:
    """Questions of SEED-Bench with four choices, an image each."""
    options = {f"choice_{letter}": choice for letter, choice in zip("abcd", choices, strict=True)}
    return [
        {
            "question_id": str(n), "question": "how many circle", **options, "answer": right, "data_type": "image",
            "image": [picture(says)],
        }
        for n, (says, right) in enumerate(zip(said, wanted, strict=True))
    ]  # fmt: skip


def write_task(folder: Path, name: str, official: str, split: str, rows: Sequence[Row], more: str = "") -> None:
    """`folder/name.yaml`: lmms-eval's own task, asked about these rows; `more` are further lines."""
    base = importlib.util.find_spec("lmms_eval")
    assert base is not None
    assert base.submodule_search_locations
    _write_rows(folder / f"{name}.parquet", rows)
    lines = {
        "include": str(Path(base.submodule_search_locations[0]) / "tasks" / official), "task": name,
        "dataset_path": "parquet", "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(folder / f"{name}.parquet")}},
    }  # fmt: skip
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items())
    (folder / f"{name}.yaml").write_text(text + more)


def write_rounds(folder: Path, name: str, said: Sequence[str]) -> None:
    """A task of two rounds, in which the second question quotes the first answer; 1 where both answers are as said."""
    rows = [{"question": "Yes or no?", "says": says, "image": picture(says)} for says in said]
    _write_rows(folder / f"{name}.parquet", rows)
    (folder / f"{name}_functions.py").write_text(ROUNDS)
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: parquet\ndataset_kwargs: {{data_files: {{test: {folder / name}.parquet}}}}\n"
        "test_split: test\noutput_type: generate_until_multi_round\n"
        f"doc_to_visual: !function {name}_functions.visuals\ndoc_to_text: !function {name}_functions.text\n"
        f"doc_to_target: says\nprocess_results: !function {name}_functions.judge\n"
        "generation_kwargs: {max_new_tokens: 3, temperature: 0, do_sample: false}\n"
        "metric_list: [{metric: both, aggregation: mean, higher_is_better: true}]\n"
    )


def install_entry_points(folder: Path) -> Path:
    """What pip would write of this project's entry points, in a folder for PYTHONPATH."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    made = folder / "arm_platform-0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: arm-platform\nVersion: 0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in groups.items()]
    (made / "entry_points.txt").write_text("".join(lines))
    return folder


def command(tasks: Path, names: Sequence[str], model_args: str, output: Path, *more: str) -> list[str]:
    """The command line of a user."""
    return [
        sys.executable, "-m", "lmms_eval", "--model", "arm", "--model_args", model_args, "--tasks", ",".join(names),
        "--include_path", str(tasks), "--output_path", str(output), "--log_samples", *more,
    ]  # fmt: skip


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Parquet with the note by which `datasets` knows a picture."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns: dict[str, Any] = {}
    features: dict[str, Any] = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if name == "image" and isinstance(value, list):
            held = [[{"bytes": one, "path": None} for one in some] for some in values]
            columns[name] = pa.array(held, pa.list_(image))
            features[name] = {"_type": "List", "feature": {"_type": "Image"}}
        elif name == "image":
            columns[name] = pa.array([{"bytes": one, "path": None} for one in values], image)
            features[name] = {"_type": "Image"}
        else:
            columns[name] = pa.array(values)
            features[name] = {"_type": "Value", "dtype": "int64" if isinstance(value, int) else "string"}
    note = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(note), path)
