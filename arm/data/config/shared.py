"""What several data jobs share: how Spark runs."""

from dataclasses import dataclass

from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SparkConfig:
    """How Spark runs; nothing here can change the bytes of an output."""

    master: str = "local[2]"
    """`local[N]`: N cores of this machine; empty: whatever spark-submit was told (a cluster)."""
    driver_memory: str = "1g"
    """Heap of the driver's JVM; under `local[N]` the executors live in it."""
    shuffle_partitions: int = 4
    """Partitions after a shuffle: two per core suffice on one machine."""
    java_options: str = (
        "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
    )
    """Options of the JVM; these start fast, a long job wants an empty string."""

    def __post_init__(self) -> None:
        if self.shuffle_partitions < 1:
            raise UserError(f"SparkConfig.shuffle_partitions is {self.shuffle_partitions}; give at least 1.")
