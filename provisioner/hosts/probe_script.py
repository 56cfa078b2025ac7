"""The probe's host-side part: its text is sent over SSH to the host's python3, with a request, and answers one JSON.

Read-only. Standard library of Python 3.6 and later, nothing of this program: the host has neither. Texts come back
as the host's programs print them; parsing them is the control machine's work (`provisioner.hosts.parse`).
Environments of containers and the proxies of the engine stay on the host: they may hold secrets.
"""

# Python 3.6 on the host: no newer spellings; os.path because it starts faster than pathlib.
# ruff: noqa: UP006, UP031, UP035, UP045, PTH110, PTH111, PTH112, PTH113, PTH115, PTH116, PTH118, PTH119, PTH120, PTH123
# ruff: noqa: PTH207, PTH208

import glob
import hashlib
import json
import os
import pwd
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:  # for whoever checks the types: loading it takes the host as long as loading json
    from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

VERSION = 1
BEGIN = "<<<provision-probe %d" % VERSION
END = "provision-probe %d>>>" % VERSION

DOCKER_SOCKET = "/var/run/docker.sock"
DPKG = "/var/lib/dpkg"
SIMULATED_GPUS = "/etc/lab-gpus.csv"
HEALTH_TIMEOUT_S = 3
GPU_FIELDS = "index,name,memory.total,memory.used,driver_version"
PACKAGES = ["docker-ce", "docker.io", "moby-engine", "nvidia-container-toolkit"]
BUILDX = ["/usr/libexec/docker", "/usr/lib/docker", "/usr/local/libexec/docker", "/usr/local/lib/docker", "~/.docker"]
UNIT_PROPERTIES = "Id,LoadState,ActiveState,SubState,UnitFileState,NRestarts,FragmentPath,NeedDaemonReload,Result"
# Users' shells leave these out, and it is here that the GPU and Docker programs are.
PATH = ":".join([os.environ.get("PATH", ""), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"])
ENV = dict(os.environ, PATH=PATH, LC_ALL="C", LANGUAGE="C", SYSTEMD_PAGER="", SYSTEMD_COLORS="0")


def main(request: "Dict[str, Any]") -> None:
    """Look at everything at once and print the answer between markers, whatever a login shell printed before."""
    text = json.dumps(look(request), sort_keys=True)
    sys.stdout.write("\n%s\n%s\n%s\n" % (BEGIN, text, END))
    sys.stdout.flush()
    os._exit(0)  # a thread that waits on a hung driver must not keep the probe alive


def look(request: "Dict[str, Any]") -> "Dict[str, Any]":
    """One answer per section, and an `errors` entry for each section that failed or did not end in time."""
    sections: Dict[str, Callable[[Dict[str, Any]], Any]] = {
        "system": system,
        "disks": disks,
        "gpu_list": gpu_list,
        "gpu_summary": gpu_summary,
        "toolkit": toolkit,
        "packages": packages,
        "docker_cli": docker_cli,
        "docker_engine": docker_engine,
        "units": units,
        "files": files,
        "marked": marked,
        "weights": weights,
        "cached": cached,
        "paths": paths,
        "ports": ports,
        "health": health,
        "firewall": firewall,
    }
    done: Dict[str, Any] = {}
    errors: Dict[str, str] = {}

    def work(name: str) -> None:
        try:
            done[name] = sections[name](request)
        except Exception as error:  # one broken section must not hide the others
            errors[name] = "%s: %s" % (type(error).__name__, error)

    threads = {name: threading.Thread(target=work, args=(name,), daemon=True) for name in sections}
    for thread in threads.values():
        thread.start()
    end = _now() + request.get("limit_s", 60)
    for name, thread in threads.items():
        thread.join(max(0.0, end - _now()))
        if thread.is_alive():
            errors[name] = "did not end within %d s" % request.get("limit_s", 60)
    # Copies: a thread that is late may still write.
    return dict(dict(done), version=VERSION, errors=dict(errors))


def command(argv: "List[str]", timeout: float) -> "Dict[str, Any]":
    """Run to the end: rc, out, err, timed_out. rc 127: no such program; 126: it cannot be started."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENV,
            cwd="/",
            start_new_session=True,
        )
    except FileNotFoundError:
        return {"rc": 127, "out": "", "err": "%s: not found" % argv[0], "timed_out": False}
    except OSError as error:
        return {"rc": 126, "out": "", "err": "%s: %s" % (argv[0], error.strerror), "timed_out": False}
    late = False
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, err = process.communicate(timeout=2)
        except subprocess.TimeoutExpired:  # stuck in the kernel: not even KILL ends it
            out, err = b"", b""
    words = err.decode("utf-8", "replace")
    if late:
        words += "%s did not end within %d s" % (" ".join(argv[:2]), timeout)
    return {"rc": process.returncode, "out": out.decode("utf-8", "replace"), "err": words, "timed_out": late}


def system(_request: "Dict[str, Any]") -> "Dict[str, Any]":
    name = os.uname()
    return {
        "hostname": name.nodename,
        "machine": name.machine,
        "kernel": name.release,
        "root": os.geteuid() == 0,
        "cpus": os.cpu_count(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "boot_id": _read("/proc/sys/kernel/random/boot_id"),
        "uptime": _read("/proc/uptime"),
        "meminfo": _read("/proc/meminfo"),
        "os_release": _read("/etc/os-release") or _read("/usr/lib/os-release"),
    }


def disks(request: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    return [_disk(path) for path in request.get("disk_paths", [])]


def _disk(path: str) -> "Dict[str, Any]":
    """Free bytes where the path is, or where it will be once it is made."""
    place = path
    while not os.path.exists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    now = os.statvfs(place)
    return {"path": path, "at": place, "free": now.f_bavail * now.f_frsize, "size": now.f_blocks * now.f_frsize}


def gpu_list(request: "Dict[str, Any]") -> "Dict[str, Any]":
    ask = ["nvidia-smi", "--format=csv,noheader,nounits"]
    answer = command([*ask, "--query-gpu=%s,compute_cap" % GPU_FIELDS], request.get("gpu_timeout_s", 30))
    if "not a valid field" in answer["out"] + answer["err"]:  # compute_cap came with driver 510 or so
        answer = command([*ask, "--query-gpu=%s" % GPU_FIELDS], request.get("gpu_timeout_s", 30))
    return {"csv": answer, "simulated": os.path.exists(SIMULATED_GPUS)}


def gpu_summary(request: "Dict[str, Any]") -> "Dict[str, Any]":
    """The table for people: only its head tells the CUDA version, there is no query for it."""
    answer = command(["nvidia-smi"], request.get("gpu_timeout_s", 30))
    answer["out"] = "\n".join(answer["out"].splitlines()[:6])  # below are processes: not ours to look at
    return answer


def toolkit(_request: "Dict[str, Any]") -> "Dict[str, Any]":
    specs = []
    for path in sorted(glob.glob("/etc/cdi/*") + glob.glob("/var/run/cdi/*")):
        kind = re.search(r"\"?kind\"?\s*:\s*\"?([^\s\",]+)", _read(path))
        specs.append({"path": path, "kind": kind.group(1) if kind else ""})
    programs = ["nvidia-container-runtime-hook", "nvidia-container-runtime"]
    found = [path for path in map(_which, programs) if path]
    return {"ctk": command(["nvidia-ctk", "--version"], 10), "programs": found, "cdi": specs}


def packages(_request: "Dict[str, Any]") -> "Dict[str, Any]":
    # dpkg-query reads the same file, and half a megabyte of others. What is in updates, it has not put there yet.
    if os.path.isfile(DPKG + "/status") and not os.listdir(DPKG + "/updates"):
        return {"rc": 0, "out": "".join(_dpkg(_read(DPKG + "/status"))), "err": "", "timed_out": False}
    if _which("dpkg-query"):
        return command(["dpkg-query", "-W", "-f", "${Package}\t${Version}\t${db:Status-Status}\n", *PACKAGES], 20)
    return command(["rpm", "-q", "--queryformat", "%{NAME}\t%{VERSION}-%{RELEASE}\tinstalled\n", *PACKAGES], 20)


def _dpkg(status: str) -> "Iterator[str]":
    """Of each of the packages its line, as dpkg-query has it. `status`: paragraphs of fields (deb822(5))."""
    for name in PACKAGES:
        _, known, rest = ("\n" + status).partition("\nPackage: %s\n" % name)
        if known:
            lines = rest.partition("\n\n")[0].splitlines()
            fields = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(" "))
            yield "%s\t%s\t%s\n" % (name, fields.get("Version", ""), fields.get("Status", "").rpartition(" ")[2])


def _which(name: str) -> "Optional[str]":
    paths = [os.path.join(folder, name) for folder in PATH.split(":")]
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def docker_cli(request: "Dict[str, Any]") -> "Dict[str, Any]":
    places = [os.path.join(os.path.expanduser(place), "cli-plugins", "docker-buildx") for place in BUILDX]
    return {
        "version": command(["docker", "--version"], request.get("docker_timeout_s", 15)),
        "buildx": [place for place in places if os.access(place, os.X_OK)],
    }


class Engine:
    """The engine's API on its socket, where the CLI is one slow start for each question."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout

    def ask(self, path: str) -> "Tuple[int, Any]":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self.timeout)
            connection.connect(DOCKER_SOCKET)
            status, body = _get(connection, path)
        return status, json.loads(body.decode("utf-8"))


def _get(connection: socket.socket, path: str, status_alone: bool = False) -> "Tuple[int, bytes]":
    """One request by HTTP/1.0, whose answer ends with the connection.

    Not by http.client: loading it takes as long as everything else that a host does for the probe.
    """
    connection.sendall(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" % path).encode("ascii"))
    said = []
    for piece in iter(lambda: connection.recv(65536), b""):
        said.append(piece)
        if status_alone and b"\r\n" in piece:
            break
    head, _, body = b"".join(said).partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})", head)
    if status is None:
        raise ValueError("it does not answer as an HTTP server")
    return int(status.group(1)), body


def _quote(text: str, safe: str = "") -> str:
    """As a part of a URL (RFC 3986)."""
    plain = ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~" + safe).encode("ascii")
    return "".join(chr(byte) if byte in plain else "%%%02X" % byte for byte in text.encode("utf-8"))


def docker_engine(request: "Dict[str, Any]") -> "Dict[str, Any]":
    engine = Engine(request.get("docker_timeout_s", 15))
    answer: Dict[str, Any] = {"info": None, "disk": None, "containers": [], "images": [], "problems": []}
    try:
        info = _ok(engine.ask("/info"))
        keys = ["ServerVersion", "Driver", "DockerRootDir", "Architecture", "CgroupVersion", "CDISpecDirs"]
        answer["info"] = {key: info.get(key) for key in keys}
        answer["info"]["Runtimes"] = sorted(info.get("Runtimes") or {})
        prefix = request.get("container_prefix", "vllm-")
        wanted = _quote(json.dumps({"name": ["^/?" + re.escape(prefix)]}))
        for listed in _ok(engine.ask("/containers/json?all=1&filters=" + wanted)):
            status, seen = engine.ask("/containers/%s/json" % listed["Id"])
            if status == 200:  # 404: gone since it was listed
                answer["containers"].append(_container(seen))
        answer["images"] = [_image(seen) for seen in _ok(engine.ask("/images/json"))]
        answer["disk"] = _disk(info["DockerRootDir"])
        for reference in request.get("images", []):
            status, seen = engine.ask("/images/%s/json" % _quote(reference, "/:@"))
            if status == 200:
                answer["images"].append(_image(seen))
            elif status != 404:  # 404: not there
                answer["problems"].append("image %s: %s" % (reference, seen.get("message", status)))
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        answer["problems"].append("%s: %s" % (DOCKER_SOCKET, words))
    return answer


def _ok(answer: "Tuple[int, Any]") -> "Any":
    status, body = answer
    if status != 200:
        raise ValueError("HTTP %d: %s" % (status, body.get("message", "")))
    return body


def _container(seen: "Dict[str, Any]") -> "Dict[str, Any]":
    state = seen["State"]
    return {
        "Id": seen["Id"],
        "Name": seen["Name"],
        "Image": seen["Image"],
        "Args": seen.get("Args") or [],
        "Reference": seen["Config"].get("Image"),
        "Running": state.get("Running"),
        "StartedAt": state.get("StartedAt"),
    }


def _image(seen: "Dict[str, Any]") -> "Dict[str, Any]":
    """Of the list or of an inspection; only the latter tells the architecture."""
    return {
        "Id": seen["Id"],
        "RepoTags": seen.get("RepoTags") or [],
        "RepoDigests": seen.get("RepoDigests") or [],
        "Labels": seen.get("Labels") or (seen.get("Config") or {}).get("Labels") or {},
        "Architecture": seen.get("Architecture") or "",
    }


def units(request: "Dict[str, Any]") -> "Optional[Dict[str, Any]]":
    names = request.get("units", [])
    if not names or not os.path.isdir("/run/systemd/system"):
        return None
    return command(["systemctl", "show", "--no-pager", "--property=" + UNIT_PROPERTIES, "--", *names], 20)


def files(request: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    public = set(request.get("public_files", []))
    return [seen for seen in (_file(path, path in public) for path in request.get("files", [])) if seen]


def _file(path: str, public: bool) -> "Optional[Dict[str, Any]]":
    """None: there is none. `error`: it is there, but this is all that can be told."""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            return {"path": path, "error": "not a regular file"}
        with open(path, "rb") as stream:
            data = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return {"path": path, "error": error.strerror}
    try:
        owner = pwd.getpwuid(state.st_uid).pw_name
    except KeyError:
        owner = str(state.st_uid)
    seen = {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "mode": "%04o" % stat.S_IMODE(state.st_mode)}
    return dict(seen, owner=owner, content=data.decode("utf-8", "replace") if public else None)


def marked(request: "Dict[str, Any]") -> "List[str]":
    """Files that begin with the mark, by the patterns asked for."""
    mark = request.get("mark", "")
    found = [path for pattern in request.get("marked", []) for path in sorted(glob.glob(pattern))]
    return [path for path in found if mark and _read(path).startswith(mark)]


def weights(request: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    """The markers that the model_weights role writes when a download is complete."""
    cache = request.get("cache_dir")
    paths = glob.glob(os.path.join(glob.escape(cache), ".provision", "*.json")) if cache else []
    return [{"path": path, "text": _read(path)} for path in sorted(paths, key=os.path.getmtime)]


def cached(request: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    """Model repositories in the cache, by the layout of the hub's client: what is in them, and what is missing."""
    found = []
    for repo in request.get("cached", []):
        place = os.path.join(request["cache_dir"], "hub", "models--" + repo.replace("/", "--"))
        if os.path.isdir(place):
            names = glob.glob(os.path.join(glob.escape(place), "refs", "*"))
            refs = {os.path.basename(name): _read(name).strip() for name in names}
            commits = glob.glob(os.path.join(glob.escape(place), "snapshots", "*"))
            snapshots = {os.path.basename(commit): _missing(commit) for commit in commits}
            found.append({"repo": repo, "refs": refs, "snapshots": snapshots})
    return found


def _missing(snapshot: str) -> str:
    """What a snapshot of a model lacks; "" for a whole one. Its files are links to what they hold."""
    names = set()
    for folder, _, files_ in os.walk(snapshot):
        names |= {os.path.relpath(os.path.join(folder, name), snapshot) for name in files_}
    wanted = {"config.json"}
    for index in [name for name in names if name.endswith(".safetensors.index.json")]:
        try:
            wanted |= set(json.loads(_read(os.path.join(snapshot, index)))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            return "%s cannot be read" % index
    gone = sorted(name for name in names | wanted if not os.path.exists(os.path.join(snapshot, name)))
    if gone:
        return "%s is missing" % gone[0] + (" and %d more files" % (len(gone) - 1) if gone[1:] else "")
    return "" if any(name.endswith((".safetensors", ".bin", ".gguf")) for name in names) else "it has no weights"


def paths(request: "Dict[str, Any]") -> "Dict[str, str]":
    """By path: file, directory, other, or "" for nothing."""
    kinds = {}
    for path in request.get("paths", []):
        kind = "file" if os.path.isfile(path) else "directory" if os.path.isdir(path) else "other"
        kinds[path] = kind if os.path.exists(path) else ""
    return kinds


def ports(request: "Dict[str, Any]") -> "Dict[str, Any]":
    """Lines of /proc/net/tcp and tcp6 (proc(5)) for sockets that listen on the ports asked for, and whose they are."""
    wanted = {"%04X" % port for port in request.get("ports", [])}
    lines = []
    if wanted:
        try:
            listed = [line for family in (socket.AF_INET, socket.AF_INET6) for line in _listening(family)]
        except OSError:  # a kernel without sock_diag
            listed = [line for table in ("/proc/net/tcp", "/proc/net/tcp6") for line in _read(table).splitlines()[1:]]
        for line in listed:
            fields = line.split()
            if fields[3] == "0A" and fields[1].rpartition(":")[2] in wanted:  # 0A: LISTEN
                lines.append(line)
    return {"lines": lines, "owners": _owners({line.split()[9] for line in lines})}


def _listening(family: int) -> "Iterator[str]":
    """Sockets that listen, as lines of the table, whose other columns are empty here.

    The kernel is asked for these alone (sock_diag(7)). For its table it goes through all connections that there could
    be, which are the more the more memory it has: 7 ms for both tables where it has 24 GiB.
    """
    by_family, dump, done, listen = 20, 0x301, 3, 10
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:  # 4: NETLINK_SOCK_DIAG
        kernel.settimeout(5)
        ask = struct.pack("=BBxxI48x", family, socket.IPPROTO_TCP, 1 << listen)
        kernel.send(struct.pack("=IHHII", 16 + len(ask), by_family, dump, 1, 0) + ask)
        while True:
            data = kernel.recv(65536)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == done:
                    return
                if kind != by_family:
                    raise OSError("the kernel does not list sockets")
                port = struct.unpack_from("!H", data, 20)[0]
                address = struct.unpack_from("=4I" if family == socket.AF_INET6 else "=I", data, 24)
                place = "%s:%04X" % ("".join("%08X" % word for word in address), port)
                yield "- %s - 0A - - - - - %d" % (place, struct.unpack_from("=I", data, 84)[0])
                data = data[(length + 3) & ~3 :]


def health(request: "Dict[str, Any]") -> "Dict[str, int]":
    """By port: status of GET /health, 0 where nothing answers in time. [port, bind address] each, all at once."""
    found: Dict[str, int] = {}

    def ask(port: int, address: str) -> None:
        # A bind address that means "all" is asked on the loopback.
        place = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(address, address)  # noqa: S104  compared
        try:
            # In bytes: for text, what names in any alphabet need would be loaded.
            where = (place.encode("ascii"), port)
            with socket.create_connection(where, timeout=HEALTH_TIMEOUT_S) as server:  # type: ignore[arg-type]  # bytes are taken, too
                found[str(port)], _ = _get(server, "/health", status_alone=True)
        except (OSError, ValueError):
            found[str(port)] = 0

    threads = [threading.Thread(target=ask, args=tuple(one), daemon=True) for one in request.get("health", [])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def firewall(request: "Dict[str, Any]") -> "Optional[Dict[str, Any]]":
    opened = _opened_for_us(request.get("record"))
    if not request.get("firewall") and not opened:
        return None
    return {
        "ufw": command(["ufw", "status"], 20),
        "firewalld": command(["firewall-cmd", "--list-ports"], 20),
        "for_us": opened,
    }


def _opened_for_us(record: "Optional[str]") -> "List[int]":
    """Ports that were closed before a server of ours needed them."""
    try:
        told = json.loads(_read(record or "") or "{}")
        return sorted(int(port) for port in told["parts"]["vllm_server"]["ports"])
    except (ValueError, KeyError, TypeError):  # the role says what is wrong with a record
        return []


def _owners(inodes: "Set[str]") -> "Dict[str, Dict[str, Any]]":
    """By socket inode: the process that holds it. Empty for processes of others where we are not root."""
    found: Dict[str, Dict[str, Any]] = {}
    for folder in glob.glob("/proc/[0-9]*/fd") if inodes else ():
        if len(found) == len(inodes):
            break
        try:
            links = [os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)]
        except OSError:  # ended meanwhile, or not ours to see
            continue
        process = os.path.dirname(folder)
        for link in links:
            inode = link[8:-1] if link.startswith("socket:[") else ""
            if inode in inodes and inode not in found:
                found[inode] = {
                    "pid": int(os.path.basename(process)),
                    "comm": _read(process + "/comm").strip(),
                    "cgroup": _read(process + "/cgroup"),
                }
    return found


def _read(path: str) -> str:
    """The text, or "" where there is none or it may not be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _now() -> float:
    return float(os.times().elapsed)
