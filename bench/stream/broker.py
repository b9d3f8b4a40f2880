"""A broker of Apache Kafka for a benchmark: one node, on ports and in a folder of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

CLUSTER = "AAAAAAAAAAAAAAAAAAAAAQ"
START_SECONDS = 60
# `server.properties` of a node that is its own controller, and gives a topic's records to whoever asks.
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={folder}/log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
"""


def jars() -> Path:
    """Where `tools/setup_kafka.sh` has put the broker."""
    folder = Path(os.environ.get("DELTAWORKS_KAFKA", Path.home() / ".cache/deltaworks/kafka"))
    if not folder.is_dir():
        sys.exit(f"{folder} does not exist: run tools/setup_kafka.sh")
    return folder


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at: all are held before one is given up."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


class Broker:
    """Starts in `with`, and is killed at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, controller = free_ports(2)
        self.servers = f"127.0.0.1:{self.port}"
        folder.mkdir(parents=True)
        self.properties = folder / "server.properties"
        self.properties.write_text(PROPERTIES.format(port=self.port, controller=controller, folder=folder))

    def __enter__(self) -> Broker:
        java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{jars()}/*"]
        format_storage = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self.properties)]
        subprocess.run(format_storage, check=True, capture_output=True)
        with (self.folder / "broker.log").open("w") as log:
            self.process = subprocess.Popen(
                [*java, "kafka.Kafka", str(self.properties)], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                KafkaConsumer(bootstrap_servers=self.servers, request_timeout_ms=2000).close()
                return self
            except KafkaError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the broker does not start:\n{(self.folder / 'broker.log').read_text()}")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def create_topic(self, name: str, partitions: int) -> None:
        """Makes an empty topic."""
        admin = KafkaAdminClient(bootstrap_servers=self.servers)
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])
        admin.close()
