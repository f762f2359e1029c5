"""A store in which every process is somebody, by the ACL file that a deployment is given."""

from pathlib import Path

from riskbeat.access import RELOAD, ROLES, acl_file
from riskbeat.embedded import valkey_command
from riskbeat.ports import LOOPBACK, free_ports
from tests.live.servers import ProcessHost, Server, answering

PREFIX = "riskbeat:"


class Guarded:
    """The embedded Valkey with an ACL file, and everybody's address."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "users.acl"
        self.file.write_text(acl_file({name: (f"of {name}",) for name in (*ROLES, RELOAD)}, PREFIX))
        (port,) = free_ports(1)
        self.address = f"{LOOPBACK}:{port}/0"
        command = [*valkey_command(folder, port, durable=False), "--aclfile", str(self.file)]
        self.host = ProcessHost(command, folder / "valkey.log")
        answering(Server(self.url("operate"), "Valkey with an ACL file", self.host))

    def url(self, role: str) -> str:
        return f"redis://{role}:of%20{role}@{self.address}"
