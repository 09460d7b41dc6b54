"""Write what the documentation takes from the code.

README.md            between `<!-- jobs -->` and `<!-- tree -->` marks: the table of jobs, the tree with a line a file
docs/reference.md    every job with its inputs, and each field of its config
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from arm import command_line, jobs  # noqa: E402

PARTS = {
    "pipelines": "graphs of components, nothing else",
    "components": "one file a job for KFP, whose body is one call of `launch`",
    "arm": "the library",
    "infra": "container images and what a cluster must grant",
    "tests": "mirrors arm/, and tests of the pipelines, the infrastructure and this page",
    "benchmarks": "one file a claim of speed, against a named peer in the same run",
    "docs": "numbered for reading; a glossary; one page a decision; a log of experiments",
}
WHOLE = ("components", "infra", "tests", "benchmarks", "docs")
"""Folders that get one line as a whole."""


def job_table() -> str:
    """The jobs as a Markdown table."""
    lines = ["| phase | job | what it does |", "|---|---|---|"]
    for job in jobs.JOBS:
        stages = f" ({', '.join(job.stages)})" if job.stages else ""
        lines.append(f"| {job.phase} | `{job.name}`{stages} | {job.purpose} |")
    return "\n".join(lines)


def tree() -> str:
    """The tree of the repository: one line a file, taken from its docstring."""
    lines = ["```"]
    for name, purpose in PARTS.items():
        if not (ROOT / name).is_dir():
            continue
        lines.append(f"{name + '/':30} {purpose}")
        if name not in WHOLE:
            lines += _files(ROOT / name, depth=1)
    return "\n".join([*lines, "```"])


def _files(folder: Path, depth: int) -> list[str]:
    lines = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            lines += [_line(f"{path.name}/", path / "__init__.py", depth), *_files(path, depth + 1)]
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append(_line(path.name, path, depth))
    return lines


def _line(name: str, path: Path, depth: int) -> str:
    return f"{'  ' * depth + name:30} {summary(path)}".rstrip()


def summary(path: Path) -> str:
    """The first line of a file's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.split("\n")[0].rstrip(".")


def reference() -> str:
    """Every job and every field of its config."""
    lines = ["# Reference", "", "Made by `make docs` from the code; not kept in git.", ""]
    for job in jobs.JOBS:
        config = jobs.resolve(job.config)
        inputs = ", ".join(f"{item.name}{' (optional)' if item.optional else ''}" for item in job.inputs) or "none"
        lines += [f"## {job.name}", "", job.purpose, "", f"Inputs: {inputs}. Makes: {job.makes}.", ""]
        lines += ["| field | default | meaning |", "|---|---|---|"]
        for name, default, _, text in command_line.fields_of(config):
            shown = command_line.show_default(default)[:80].replace("|", "∣")
            lines.append(f"| `{name}` | `{shown}` | {' '.join(text.split()).replace('|', '∣')} |")
        lines.append("")
    return "\n".join(lines)


def fill(text: str, mark: str, content: str) -> str:
    """Put the content between `<!-- mark -->` and `<!-- /mark -->`."""
    pattern = re.compile(f"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def main() -> None:
    """Write all of it."""
    readme = ROOT / "README.md"
    readme.write_text(fill(fill(readme.read_text(), "jobs", job_table()), "tree", tree()))
    (ROOT / "docs/reference.md").write_text(reference())


if __name__ == "__main__":
    main()
