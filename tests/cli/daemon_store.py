# SPDX-License-Identifier: Apache-2.0
"""daemon_store.py SHMALLOCD PEER DIR NAME: plays the service manager that keeps the descriptors of a memfd arena."""
import array
import os
import signal
import socket
import subprocess
import sys
import time

daemon, peer, work, name = sys.argv[1:]
path = work + "/store.sock"
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
notify.settimeout(200)
store = {}


def receive(until):
    """Reads notifications until one contains a text."""
    while True:
        room = socket.CMSG_SPACE(array.array("i").itemsize)
        data, control, _, _ = notify.recvmsg(4096, room)
        lines = dict(l.split("=", 1) for l in data.decode().splitlines() if "=" in l)
        fds = [fd for _, _, raw in control for fd in array.array("i", raw)]
        if lines.get("FDSTORE") == "1":
            store[lines["FDNAME"]] = fds[0]
        if lines.get("FDSTOREREMOVE") == "1" and lines["FDNAME"] in store:
            os.close(store.pop(lines["FDNAME"]))
        if until in data.decode():
            return


def start():
    env = dict(os.environ, NOTIFY_SOCKET=path)
    names = sorted(store)

    def pass_on():
        # From 3 on, in the order of their names.
        high = [os.dup2(store[n], 100 + i) for i, n in enumerate(names)]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, True)
        os.environ.update(env)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
        args = [daemon, "--socket", work + "/s", "--state-dir", work + "/store", "--config", "/dev/null"]
        os.execv(daemon, args)

    pid = os.fork()
    if pid == 0:
        pass_on()
    receive("READY=1")
    return pid


def ask(*args):
    return subprocess.run([peer, work + "/s", *args], stdout=subprocess.PIPE, check=True, timeout=200).stdout.decode()


pid = start()
try:
    assert "status=served" in ask("create", name, "1"), "create"
    receive("FDNAME=life." + name)
    assert sorted(store) == ["arena." + name, "life." + name], store
    for _ in range(2):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pid = start()
        assert "status=served" in ask("show", name), ask("show", name)
    ask("destroy", name)
    receive("FDSTOREREMOVE=1\nFDNAME=heap." + name)
    assert not store, store
finally:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print("ok: a memory file outlives SIGKILL in the descriptor store")
