"""A Slurm cluster of three nodes on this machine, each a slurmd in namespaces of its own.

A node has a host name and process ids of its own, and can be powered off.  It needs root and
Debian's slurmctld, slurmd, slurm-client, munge and slurm-wlm-basic-plugins.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "munged", "unshare")
NODES = ("node1", "node2", "node3")
GPU_NODE = "node1"

SLURM_CONF = """
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge/munge.socket.2
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
StateSaveLocation={folder}/state/ctld
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdSpoolDir={folder}/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
LaunchParameters=disable_send_gids
ReturnToService=2
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=10
BatchStartTimeout=10
MessageTimeout=10
KillWait=2
InactiveLimit=0
Waittime=0
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.log
PropagateResourceLimits=NONE
GresTypes=gpu
{nodes}
PartitionName=main Nodes=node[2-3] Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=node1 MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return what this machine lacks for a cluster."""
    lacks = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return lacks + (["root"] if os.geteuid() else [])


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


class Cluster:
    """Starts with `with`, and at its end stops every process that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        try:
            self._write_configuration()
            self._start_munge()
            self._start("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
            for node in NODES:
                self._start_node(node)
            # A node that has just registered may fall back to unknown once.
            for _ in range(3):
                wait_until(lambda: self._idle() == len(NODES), 60, "the nodes are idle")
                time.sleep(0.5)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for name in reversed(list(self._processes)):
            self._kill(name)

    @property
    def conf(self) -> Path:
        return self.folder / "etc/slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What a login node has: Slurm's commands and where its configuration is."""
        path = f"{self.folder / 'bin'}{os.pathsep}{_path()}"
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.conf)}

    def command(self, *arguments: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = subprocess.run(
            arguments, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def running(self) -> list[tuple[str, str, str]]:
        """Return the jobs that run: their ids, nodes and comments (which name the rule)."""
        lines = self.command("squeue", "-h", "-t", "R", "-o", "%i|%N|%k").splitlines()
        return [(job, node, comment) for job, node, comment in (line.split("|") for line in lines)]

    def power_off(self, node: str) -> None:
        """Take a node away, with all that runs on it and without a word to the controller."""
        self._kill(node)

    def records(self) -> list[dict[str, str]]:
        """Return Slurm's own records of the jobs that ended."""
        text = (self.folder / "log/jobcomp.log").read_text()
        return [
            dict(part.partition("=")[::2] for part in line.split() if "=" in part)
            for line in text.splitlines()
        ]

    def _write_configuration(self) -> None:
        for name in ("bin", "dev", "etc", "log", "run", "spool", "state/ctld"):
            (self.folder / name).mkdir(parents=True)
        ports = free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={port} CPUs=4"
            f" RealMemory=16000{' Gres=gpu:2' if node == GPU_NODE else ''}"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        self.conf.write_text(
            SLURM_CONF.format(
                host=socket.gethostname(), folder=self.folder, port=ports[0], nodes=nodes
            )
        )
        devices = self.folder / "dev/nvidia"
        (self.folder / "etc/gres.conf").write_text(
            f"AutoDetect=off\nNodeName={GPU_NODE} Name=gpu File={devices}[0-1]\n"
        )
        for number in range(2):  # Slurm wants to see the files; nothing opens them
            os.mknod(f"{devices}{number}", 0o20666, os.makedev(1, 3))
        # A job step does not inherit SLURM_CONF.
        wrapper = self.folder / "bin/srun"
        srun = shutil.which("srun", path=_path())
        wrapper.write_text(f'#!/bin/sh\nexport SLURM_CONF="{self.conf}"\nexec {srun} "$@"\n')
        wrapper.chmod(0o755)

    def _start_munge(self) -> None:
        self.folder.chmod(0o755)
        run, state, log = (self.folder / f"{name}/munge" for name in ("run", "state", "log"))
        for folder, mode in ((run, 0o755), (state, 0o700), (log, 0o700)):
            folder.mkdir()
            shutil.chown(folder, "munge", "munge")
            folder.chmod(mode)
        key = self.folder / "etc/munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        shutil.chown(key, "munge", "munge")
        self._start(
            "munged",
            ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged",
             "--foreground", "--force", f"--key-file={key}", f"--socket={run}/munge.socket.2",
             f"--pid-file={run}/munged.pid", f"--log-file={log}/munged.log",
             f"--seed-file={state}/munge.seed"],
        )  # fmt: skip
        wait_until((run / "munge.socket.2").exists, 20, "munged listens")

    def _start_node(self, node: str) -> None:
        folder = self.folder / "nodes" / node
        folder.mkdir(parents=True)
        hosts = [line for line in Path("/etc/hosts").read_text().splitlines() if "127." not in line]
        names = " ".join(["localhost", socket.gethostname(), *NODES])
        (folder / "hosts").write_text("\n".join([*hosts, f"127.0.0.1 {names}", ""]))
        script = (
            f"hostname {node} && mount --bind {folder}/hosts /etc/hosts"
            f" && exec slurmd -D -f {self.conf} -N {node}"
        )
        self._start(
            node,
            ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--uts", "--kill-child",
             "bash", "-c", script],
        )  # fmt: skip

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"log/{name}.out").open("wb") as output:
            self._processes[name] = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _kill(self, name: str) -> None:
        """End a process; `--kill-child` takes a node's processes with it."""
        process = self._processes.pop(name, None)
        if process is not None:
            with_children = [process.pid, *_children(process.pid)]
            for pid in reversed(with_children):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def _idle(self) -> int:
        states = self.command("sinfo", "-h", "-N", "-o", "%N %t").split("\n")
        return len({line.split()[0] for line in states if line.endswith(" idle")})


def _children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition; fail with `what` when the time is over."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.5)
