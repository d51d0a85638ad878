"""Runs one command in a throw-away Linux guest with the unified cgroup tree: another kernel, another user, or systemd.

    python tests/guest/machine.py [--kernel uml|6.12|5.10] [--user NAME] [--systemd] [--seconds N] -- COMMAND...

Needs root and no /dev/kvm. The working tree is copied in; nothing that the guest writes comes back but its output.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import kernel as kernels
import root as roots

HERE = os.path.dirname(os.path.abspath(__file__))
UNIT = """[Unit]
Description=the command
Requires=dbus.socket
After=dbus.socket basic.target
[Service]
Type=oneshot
ExecStart=/srv/run.sh
TimeoutStartSec=infinity
Delegate=yes
"""
TO_SYSTEMD = """#!/bin/bash
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system
cp /srv/command.service /run/systemd/system/
exec /lib/systemd/systemd --unit=command.service systemd.show_status=0 systemd.unified_cgroup_hierarchy=1
"""


class GuestFailed(Exception):
    """The guest did not come up, or did not end in time; the text holds the end of its console."""


def run(command, *, kernel="uml", user="root", systemd=False, seconds=900, memory_mib=1536, append=""):
    """(exit code, output) of a shell command in a new guest, in the folder of the working tree. Raises GuestFailed."""
    chosen, disk = kernels.get(kernel), roots.image()
    folder = tempfile.mkdtemp(prefix="run-", dir=kernels.CACHE)
    try:
        with open(f"{HERE}/run.sh") as file:
            script = file.read()
        settings = f"KIND={'uml' if kernel == 'uml' else 'qemu'} USER_NAME={user} NOW={int(time.time())}\n"
        settings += f"INIT={'/srv/to-systemd' if systemd else '/srv/run.sh'}\n"
        roots.pack(f"{folder}/tree", {"run.sh": script, "settings": settings, "command": command,
                                      "command.service": UNIT, "to-systemd": TO_SYSTEMD})
        _initramfs(chosen, folder)
        for name in ("console", "output", "code"):
            open(f"{folder}/{name}", "wb").close()
        start = _user_mode if kernel == "uml" else _emulated
        _wait(start(chosen, disk, folder, memory_mib, append), seconds)
        with open(f"{folder}/output", errors="replace") as file:
            output = file.read().replace("\r\n", "\n")
        with open(f"{folder}/code", errors="replace") as file:
            ended = file.read().split()
        if len(ended) != 2 or ended[0] != "ended":
            with open(f"{folder}/console", errors="replace") as file:
                raise GuestFailed(f"the guest ended without an exit code\n{file.read()[-3000:]}\n{output[-3000:]}")
        return int(ended[1]), output
    finally:
        shutil.rmtree(folder)


def _wait(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass  # no exit code will be found
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _initramfs(chosen, folder):
    """busybox, init.sh and the modules; all of them, since the root disk knows no kernel."""
    tree = f"{folder}/initramfs"
    os.makedirs(f"{tree}/bin")
    shutil.copy("/bin/busybox", f"{tree}/bin/busybox")
    shutil.copy(f"{HERE}/init.sh", f"{tree}/init")
    os.chmod(f"{tree}/init", 0o755)
    shutil.copytree(f"{chosen.modules}/lib", f"{tree}/lib", symlinks=True)
    with open(f"{tree}/modules", "w") as file:
        file.write("".join(f"{name}\n" for name in kernels.MODULES))
    subprocess.run(f"cd {tree} && find . | busybox cpio -o -H newc 2>/dev/null >../initramfs.cpio", shell=True, check=True)
    shutil.rmtree(tree)


def _emulated(chosen, disk, folder, memory_mib, append):
    # One CPU: of two, one may run half of an instruction that the other's kernel has just patched (a jump label, when
    # the first CPU quota is set), and the guest panics. The emulator is not to be trusted with that.
    words = ["qemu-system-x86_64", "-M", "pc,usb=off,vmport=off", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max",
             "-smp", "1", "-m", str(memory_mib), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    for name in ("console", "output", "code"):
        words += ["-serial", f"file:{folder}/{name}"]
    for number, path, more in ((0, disk, ",snapshot=on"), (1, f"{folder}/tree", ",readonly=on")):
        words += ["-drive", f"if=none,id=d{number},file={path},format=raw,cache=unsafe{more}",
                  "-device", f"virtio-blk-pci,drive=d{number}"]
    with open("/proc/cpuinfo") as file:
        mips = next(float(line.split(":")[1]) for line in file if line.startswith("bogomips"))
    # the emulated TSC is the machine's: the guest's own calibration would go wrong where the machine is busy
    line = f"console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc_early_khz={int(mips * 500)} clocksource=hpet {append}"
    words += ["-kernel", chosen.image, "-initrd", f"{folder}/initramfs.cpio", "-append", line,
              "-device", "virtio-rng-pci"]
    environment = {**os.environ, "TMPDIR": folder}
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=open(f"{folder}/log", "wb"),
                            stderr=subprocess.STDOUT, env=environment)


def _user_mode(chosen, disk, folder, memory_mib, append):
    files = {3: "output", 4: "code", 5: "console"}
    script = "".join(f"exec {number}>>{folder}/{name}; " for number, name in files.items())
    words = [chosen.image, f"mem={memory_mib}M", f"ubd0={folder}/cow,{disk}", f"ubd1r={folder}/tree", "quiet", "panic=-1",
             f"initrd={folder}/initramfs.cpio", f"umid={os.path.basename(folder)}", f"uml_dir={folder}/", "con=null",
             "con0=null,fd:5", "ssl=null", "ssl0=null,fd:3", "ssl1=null,fd:4", *append.split()]
    return subprocess.Popen(["bash", "-c", script + 'exec "$@"', "uml", *words], stdin=subprocess.DEVNULL,
                            stdout=open(f"{folder}/log", "wb"), stderr=subprocess.STDOUT,
                            env={**os.environ, "TMPDIR": folder}, start_new_session=True)


def main():
    parser = argparse.ArgumentParser(description="Run a command in a throw-away guest.")
    parser.add_argument("--kernel", default="uml")
    parser.add_argument("--user", default="root")
    parser.add_argument("--systemd", action="store_true")
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    command = shlex.join(options.command) if len(options.command) > 1 else options.command[0]
    code, output = run(command, kernel=options.kernel, user=options.user, systemd=options.systemd, seconds=options.seconds)
    sys.stdout.write(output)
    return code


if __name__ == "__main__":
    sys.exit(main())
