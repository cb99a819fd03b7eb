"""NSD as the whole DNS: a root zone with nothing but the records of a test, on a port of its own."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from string import Template

from tests.peers.packages import program
from tests.peers.system import LOOPBACK, free_port, private_folder, running, wait_for_port

# What is not in the zone does not exist: nothing is ever asked of the world.
_ZONE = """\
$ORIGIN .
$TTL 60
@ IN SOA ns.test. hostmaster.test. 1 3600 600 86400 60
@ IN NS ns.test.
ns.test. IN A 127.0.0.1
"""
_CONFIG = Template("""\
server:
  ip-address: $host@$port
  server-count: 1
  username: "$user"
  zonesdir: "$folder"
  database: ""
  logfile: "$folder/log"
  pidfile: "$folder/pid"
  xfrdfile: "$folder/xfrd"
  xfrdir: "$folder"
  zonelistfile: "$folder/zones"
  round-robin: no
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "zone"
""")


@contextmanager
def name_server(records: str, *, port: int = 0) -> Iterator[str]:
    """A name server that knows these records (lines of a zone file with whole names); gives its "host:port"."""
    with private_folder("nsd") as folder:
        port = port or free_port()
        (folder / "zone").write_text(_ZONE + records)
        config = folder / "nsd.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name
        config.write_text(_CONFIG.substitute(host=LOOPBACK, port=port, folder=folder, user=user))
        with running([program("nsd"), "-d", "-c", str(config)], folder / "log") as process:
            wait_for_port(process, port, folder / "log")
            yield f"{LOOPBACK}:{port}"
