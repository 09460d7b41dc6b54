"""Where the judge is: at the address in the environment, or started here as a child that dies with this process."""

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from arm.children import start_child, stop
from arm.errors import ServiceError, UserError
from arm.rl.config import RewardConfig


@contextlib.contextmanager
def judge_address(config: RewardConfig) -> Iterator[str]:
    """Yield the address of a judge that answers /health; call this on rank 0, from the main thread."""
    address = os.environ.get(config.address_variable)
    if address:
        check_health(address)
        yield address
    elif config.module:
        with _started(config.module) as address:
            yield address
    else:
        raise UserError(
            f"The judge {config.judge!r} has no address; set the environment variable {config.address_variable}."
        )


def check_health(address: str) -> None:
    """Refuse to start a run against a judge that does not answer."""
    url = urlsplit(address)
    if url.scheme not in ("http", "https"):
        raise UserError(f"The judge's address {address!r} is no URL; give http://host:port.")
    try:
        with urllib.request.urlopen(f"{url.scheme}://{url.netloc}/health", timeout=20) as response:
            response.read(1)
    except (urllib.error.URLError, OSError) as error:
        raise ServiceError(
            f"The judge at {address} does not answer /health ({error}); start it and run again."
        ) from None


@contextlib.contextmanager
def _started(module: str) -> Iterator[str]:
    """Run `python -m MODULE`; its first line on stdout is its address."""
    child = start_child([sys.executable, "-m", module], stdout=subprocess.PIPE, text=True)
    try:
        address = child.stdout.readline().strip() if child.stdout else ""
        if not address:
            raise UserError(f"The judge `python -m {module}` ended without printing its address; run it by hand.")
        yield address
    finally:
        stop(child)
