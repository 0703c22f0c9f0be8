"""A real SLURM of two nodes on this machine: munged, slurmctld and two slurmd, on loopback, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={control}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{notice}
ReturnToService=2
KillWait=2
MinJobAge=3600
JobRequeue=1
SlurmctldTimeout=30
SlurmdTimeout=300
GresTypes=gpu
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n1} CPUs=4 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n2} CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=normal Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=15
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10
"""
#: Preempted jobs get the signal that they asked for; many clusters leave this out, and send SIGTERM alone.
NOTICE = "SlurmctldParameters=preempt_send_user_signal"


def missing() -> str | None:
    """Why there can be no such cluster here."""
    absent = [program for program in PROGRAMS if find(program) is None]
    if absent:
        return f"SLURM isn't installed: {', '.join(absent)} not found"
    return None if os.geteuid() == 0 else "SLURM's daemons run as root here, and this is another user"


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Slurm:
    """The cluster; `environment` is what makes SLURM's commands speak to it.

    Partitions: `normal`, and `urgent`, whose jobs preempt those of `normal`. Nodes: n1 and n2, of 4 CPUs and 2
    pretended GPUs each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = dict(zip(("control", "n1", "n2"), free_ports(3), strict=True))

    def start(self) -> None:
        """Returns once both nodes are idle; raises TimeoutError otherwise."""
        folder = self.folder
        folder.chmod(0o755)  # munged refuses a socket that not all can reach
        for name in ("state", "spool.n1", "spool.n2"):
            (folder / name).mkdir()
        for name in ("gpu0", "gpu1"):
            (folder / name).symlink_to("/dev/null")
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        (folder / "gres.conf").write_text(f"AutoDetect=off\nNodeName=n[1-2] Name=gpu File={folder}/gpu[0-1]\n")
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self.configure(NOTICE)
        files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munge.pid", "log-file": "munge.log"}
        options = [f"--{option}={folder}/{name}" for option, name in {**files, "seed-file": "munge.seed"}.items()]
        self._daemon("munged", "munged", "--foreground", *options)
        self.wait("munge's socket", (folder / "munge.sock").exists)
        self._daemon("slurmctld", "slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            self.boot(node)
        self.wait("two idle nodes", self.is_idle)

    def reconfigure(self, notice: str) -> None:
        """All nodes up and idle again, and preemption with or without NOTICE."""
        self.configure(notice)
        self.ask("scancel", "--user=root")
        for node in ("n1", "n2"):
            if node not in self._daemons:
                self.boot(node)
            self.ask("scontrol", "update", f"nodename={node}", "state=resume")
        self.ask("scontrol", "reconfigure")
        self.wait("two idle nodes", self.is_idle)

    def boot(self, node: str) -> None:
        self._daemon(node, "slurmd", "-D", "-N", node)

    def lose(self, node: str) -> None:
        """A node without power: its daemon and all its processes are gone at once, and SLURM is told."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()
        jobs = [pid for pid in steps(self.folder) if f"SLURMD_NODENAME={node}".encode() in environment_of(pid)]
        managers = {pid for pid in map(parent_of, jobs) if name_of(pid).startswith("slurmstepd")}
        for pid in [*managers, *jobs]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def is_idle(self) -> bool:
        return self.ask("sinfo", "-h", "-p", "normal", "-t", "idle", "-o", "%D") == "2"

    def configure(self, notice: str) -> None:
        text = CONFIGURATION.format(folder=self.folder, notice=notice, **self._ports)
        (self.folder / "slurm.conf").write_text(text)

    def stop(self) -> None:
        """End all jobs and daemons, whatever state they are in."""
        if len(self._daemons) > 1:
            subprocess.run(["scancel", "--user=root", "--full"], env=self.environment, timeout=30, capture_output=True)
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and self.jobs(running=True):
                time.sleep(0.2)
        daemons = [*reversed(self._daemons.values())]
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in steps(self.folder):  # of jobs that wouldn't end
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask(self, *words: str) -> str:
        """What a command of SLURM's says; empty where it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=300)
        return done.stdout.strip() if done.returncode == 0 else ""

    def jobs(self, running: bool = False) -> list[dict[str, str]]:
        """Each job's or array task's fields as `scontrol show job` has them."""
        lines = self.ask("scontrol", "-o", "show", "job").splitlines()
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId=")]
        return [job for job in jobs if not running or job["JobState"] in ("RUNNING", "COMPLETING", "PENDING")]

    def job(self, identity: str) -> dict[str, str]:
        """The one job, or task `ID_INDEX` of an array."""
        array, _, index = identity.partition("_")
        for job in self.jobs():
            if job["JobId"] == identity or (job.get("ArrayJobId") == array and job.get("ArrayTaskId") == index):
                return job
        return {}

    def wait(self, what: str, true: Callable[[], object], seconds: float = 300) -> None:
        """Until it is true; TimeoutError with what the control daemon logged last otherwise."""
        deadline = time.monotonic() + seconds
        while not true():
            ended = [daemon.args for daemon in self._daemons.values() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                log = self.folder / "slurmctld.log"
                last = log.read_text()[-2000:] if log.exists() else ""
                said = (self.folder / "daemons.log").read_text()[-2000:]
                raise TimeoutError(f"no {what} within {seconds:g} s; ended: {ended}\n{said}\n{last}")
            time.sleep(0.1)

    def _daemon(self, name: str, program: str, *words: str) -> None:
        path = find(program)
        assert path is not None
        output = (self.folder / "daemons.log").open("ab")
        environment = {**self.environment, "PATH": f"{self.environment['PATH']}:/usr/sbin:/sbin"}
        self._daemons[name] = subprocess.Popen([path, *words], env=environment, stdout=output, stderr=output)
        output.close()


def free_ports(n: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def steps(folder: Path) -> list[int]:
    """The processes whose environment names this cluster's configuration: its jobs', and what they started."""
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    processes = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
    return [pid for pid in processes if mark in environment_of(pid) and pid != os.getpid()]


def environment_of(pid: int) -> list[bytes]:
    """A process's variables, `KEY=value` each; none where it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
