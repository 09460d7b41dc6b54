"""What identifies a run of a data job: whatever can change its bytes, and nothing else."""

from arm.config import from_json, identity, to_json
from arm.data.config import CurateConfig, DownloadConfig, HostException


def test_the_names_of_excepted_hosts_identify_a_download_and_their_addresses_do_not() -> None:
    def identified(host: str, port: int) -> dict[str, object]:
        return identity(DownloadConfig(exceptions=(HostException(host=host, address="127.0.0.1", port=port),)))

    assert identified("a.test", 1) == identified("a.test", 2) != identified("b.test", 1)
    assert identified("a.test", 1)["exceptions"] == [{"host": "a.test"}]
    assert identified("a.test", 1) != identity(DownloadConfig())


def test_an_excepted_host_crosses_as_json_with_its_address() -> None:
    config = DownloadConfig(exceptions=(HostException(host="a.test", address="127.0.0.1", port=8080),))
    assert from_json(DownloadConfig, to_json(config)) == config


def test_the_batch_of_the_scorer_identifies_since_rounding_depends_on_it() -> None:
    assert identity(CurateConfig(scorer_batch=1)) != identity(CurateConfig())
    assert identity(CurateConfig(workers=1)) == identity(CurateConfig())
