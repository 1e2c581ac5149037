"""Compose the cluster: the node of this process, the directory of all Overseers, and what an app needs of them."""

from __future__ import annotations

from pathlib import Path

from overseer.cluster.bucket import Bucket
from overseer.cluster.directory import ClusterDirectory
from overseer.cluster.node import Node
from overseer.cluster.replicas import Daemon
from overseer.cluster.tenure import explained
from overseer.multi.directory import FOLDER, Directory
from overseer.multi.instances import Instances
from overseer.storage.replication import Replication


class Cluster:
    """What an app serves as a node at `address`. Implements `multi.placement.Placement` and `web.extensions.Served`."""

    def __init__(self, root: Path, address: str, bucket: Bucket, daemon: Daemon, *, lease_seconds: float) -> None:
        self.node = Node(address, root / FOLDER, bucket=bucket, daemon=daemon, lease_seconds=lease_seconds)
        self.directory: Directory = ClusterDirectory(root, self.node, bucket)
        self._instances: Instances | None = None
        self._is_started = False

    def serve(self, instances: Instances) -> None:
        """Serve these Overseers."""
        self._instances = instances
        self.node.close_overseer = instances.close_one

    def open(self) -> None:
        """Become a node. Raises InstanceError."""
        if not self._is_started:
            self._is_started = True
            self.node.start()
        if self._instances is not None:
            self._instances.open()

    def close(self) -> None:
        """Give all Overseers up, each of which closes its tabs so that they reconnect."""
        if self._is_started:
            self._is_started = False
            self.node.close()
        if self._instances is not None:
            self._instances.close()

    def replication(self, path: Path) -> Replication:
        """Return what copies the files of the Overseer with this instance directory. Raises StorageUnavailable."""
        return self.node.tenure(path.name)

    def claim(self, name: str) -> None:
        """See to it that this node has an Overseer. Raises Elsewhere, NoSuchOverseer and StorageUnavailable."""
        with explained(name):
            self.node.require(name)

    def whose(self, name: str) -> str:
        """Return the address of the node to ask for an Overseer: any if there is none of this name."""
        with explained(name):
            return self.node.whose(name) if name else self.node.address

    def released(self, name: str) -> None:
        """Give an Overseer up that nobody uses, so that its files are not copied any more."""
        if self._instances is not None and not self._instances.is_open(name):
            self.node.release(name)
