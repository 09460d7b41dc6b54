"""OpenStack Swift with its S3 door, in one process on one port, from pip packages alone.

    python tests/swift_server.py FOLDER     prints the proxy's port, then serves until stdin closes

One device, one replica, tempauth's user test:tester with the key testing. Swift is a real server: objects lie on disk,
signatures are checked, conditional put works.
"""

import sys
from pathlib import Path

import eventlet  # type: ignore[import-untyped]

eventlet.monkey_patch()

PROXY = """
[DEFAULT]
swift_dir = {root}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
min_segment_size = 1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
"""
STORAGE = """
[DEFAULT]
swift_dir = {root}
devices = {root}/devices
mount_check = false
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""


def main() -> None:
    """Write the rings and configs, start the four servers, wait."""
    root = Path(sys.argv[1]).absolute()
    (root / "devices" / "disk").mkdir(parents=True)
    (root / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = arm\n[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    from swift.common import utils

    utils.SWIFT_CONF_FILE = str(root / "swift.conf")
    utils.config.SWIFT_CONF_FILE = str(root / "swift.conf")
    utils.validate_hash_conf()
    for name in ("account", "container", "object"):
        serve(root, name, write_ring(root, name))
    port = serve(root, "proxy", eventlet.listen(("127.0.0.1", 0)))
    print(port, flush=True)
    eventlet.tpool.execute(sys.stdin.read)


def write_ring(root: Path, name: str):
    """A ring of one device whose server listens on a free port; returns the socket."""
    from swift.common.ring import RingBuilder

    listener = eventlet.listen(("127.0.0.1", 0))
    builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    port = listener.getsockname()[1]
    device = {"region": 1, "zone": 1, "weight": 1.0, "ip": "127.0.0.1", "port": port, "device": "disk", "meta": ""}
    builder.add_dev({**device, "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance()
    builder.get_ring().save(str(root / f"{name}.ring.gz"))
    return listener


def serve(root: Path, name: str, listener) -> int:
    """Load a server from its config and serve it in a green thread; returns its port."""
    from eventlet import wsgi
    from swift.common.wsgi import loadapp

    path = root / f"{name}-server.conf"
    path.write_text((PROXY if name == "proxy" else STORAGE).format(root=root, name=name))
    app = loadapp(str(path), global_conf={"log_name": name})
    log = (root / f"{name}.log").open("w", buffering=1)
    eventlet.spawn(wsgi.server, listener, app, log, custom_pool=eventlet.GreenPool(64))
    return listener.getsockname()[1]


if __name__ == "__main__":
    main()
