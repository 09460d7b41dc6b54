"""The verb `takedown`: write the tombstones at once, find what they touch, report, and compact on request."""

import argparse
import json
from collections.abc import Sequence

from arm import tombstones
from arm.data.holdings import look_up
from arm.errors import UserError
from arm.manifest import Manifest
from arm.storage import open_folder
from arm.takedown.entries import read_entries
from arm.takedown.impact import Impact, measure
from arm.takedown.page import render_page, text_lines
from arm.takedown.search import Holding, artifacts_of, find, holdings_of, unsearched

HELP = {
    "url": "address of an image or of a page",
    "domain": "host, with everything below it",
    "sha256": "checksum of an image, as it was served or as it is stored",
    "uid": "of a sample: 32 hexadecimal digits",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    for kind, text in HELP.items():
        help_text = f"{text}; or a file with one a line"
        parser.add_argument(f"--{kind}", action="append", metavar="FILE|VALUE", help=help_text)
    parser.add_argument("--compact", action="store_true", help="also write new versions of the artifacts without it")


def run(options: argparse.Namespace) -> None:
    """Take down, search, report; a second takedown of the same says that it is out already."""
    store = open_folder(options.store).url
    entries = read_entries({kind: getattr(options, kind) for kind in tombstones.KINDS})
    number = write(store, entries)
    artifacts = artifacts_of(store)
    if not artifacts:
        raise UserError(
            f"{store} holds no artifact; the tombstones are written and hold for whatever is made there from now on."
        )
    holdings = holdings_of(store, artifacts)
    uids = search(store, holdings, entries)
    if not uids:
        print(f"No artifact of {store} holds any of it; the tombstones keep it out of what is crawled from now on.")
    impact = measure(store, number, entries, uids, holdings, artifacts)
    for line in text_lines(impact):
        print(line)
    print(write_report(store, impact))
    if options.compact:
        compact(store, holdings)


def write(store: str, entries: tombstones.Entries) -> int:
    """Write what is not in the set yet, say so, and return the number of the file that holds what was asked for."""
    num_asked = sum(len(list(values)) for values in entries.values())
    version = tombstones.append(store, entries)
    if version is not None:
        num_new = sum(map(len, version.entries.values()))
        before = f", {num_asked - num_new:,} were out already" if num_asked > num_new else ""
        print(f"{num_new:,} tombstones written; every job that starts from now on refuses them{before}.", flush=True)
        return version.number
    wanted = {(kind, value) for kind, values in entries.items() for value in values}
    versions = tombstones.read_versions(store)
    holding = [v.number for v in versions if any((k, value) in wanted for k in v.entries for value in v.entries[k])]
    print(f"All {num_asked:,} are out already, since takedown {max(holding)}; nothing was written.", flush=True)
    return max(holding)


def search(store: str, holdings: Sequence[Holding], entries: tombstones.Entries) -> frozenset[str]:
    """Find the samples and add their uids to the set, those of takedowns that were killed before, too."""
    for version in list(unsearched(store)):
        tombstones.append(store, {"uid": find(holdings, version.entries)}, search_of=version.number)
    for holding in holdings:
        look_up(store, holding.manifest)
    return find(holdings, entries)


def write_report(store: str, impact: Impact) -> str:
    """Write the page and the JSON beside each other; returns the page's address. What is asked again goes to `latest`."""
    reports, name = tombstones.folder_of(store).child("reports"), f"{impact.number:05d}"
    folder = reports.child("latest" if reports.exists(f"{name}/index.html") else name)
    folder.write("impact.json", (json.dumps(impact.to_dict(), indent=1, sort_keys=True) + "\n").encode())
    folder.write("index.html", render_page(impact, store).encode())
    return f"{folder.url}/index.html"


def compact(store: str, holdings: Sequence[Holding]) -> None:
    """Write new versions of all artifacts that hold anything of the set, and print their folders."""
    from arm.takedown.compaction import compact_artifact

    made: list[Manifest] = []
    for holding in holdings:
        found = compact_artifact(store, holding.manifest)
        if found is not None:
            made.append(found)
            print(f"compacted         {holding.manifest.folder.url} -> {found.folder.url}", flush=True)
    if not made:
        print("Nothing is left to compact.")
