"""Boots Debian's stock kernels in QEMU and runs the mount engines' tests in each; see README.md."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from images import debian  # noqa: E402
from kernels import disk, kernels  # noqa: E402
from testbed import build_dir, run  # noqa: E402

_RUN_SECONDS = 1500
_KVM_BOOT_SECONDS = 30
_QEMU = "qemu-system-x86_64"
_TOOLS = [_QEMU, "cpio", "mke2fs", "depmod", "apt-get", "dpkg-deb", "strip"]


def missing():
    """Why nothing can be run, or None."""
    path = os.environ["PATH"] + ":/sbin:/usr/sbin"
    for tool in _TOOLS:
        if shutil.which(tool, path=path) is None:
            return f"{tool} is not installed (scripts/install-deps.sh kernels)"
    for program in (build_dir.program("pagein"), build_dir.program("pageind"), disk.mount_test()):
        if not program.exists():
            return f"{program} is not built"
    return None


class Guest:
    """What one kernel's run said."""

    def __init__(self, output):
        self.lines = [line.split()[1:] for line in output.splitlines() if line.startswith("RESULT ")]
        self.output = output

    def all(self, kind):
        return [words[1:] for words in self.lines if words[0] == kind]

    def ended(self):
        return bool(self.all("end"))


def accelerators():
    """What QEMU is to try, best first: a hypervisor in a hypervisor may be there and yet not boot."""
    return ["kvm", "tcg"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["tcg"]


def boot(kernel, root_disk, work, busybox):
    """Runs a kernel with the root disk to the guest's end, and returns the Guest."""
    initramfs = kernel.make_initramfs(work, busybox)
    for accelerator in accelerators():
        copy = work / f"root-{kernel.suite}.img"
        debian.run(["cp", "--sparse=always", root_disk, copy])
        command = [_QEMU, "-accel", accelerator, "-m", "1024", "-smp", "2", "-nographic", "-no-reboot", "-net", "none",
                   "-kernel", kernel.image, "-initrd", initramfs,
                   "-drive", f"file={copy},if=virtio,format=raw,cache=unsafe",
                   "-append", "console=ttyS0 quiet panic=-1"]
        guest = Guest(_run_guest(command, work / f"console-{kernel.suite}", accelerator))
        copy.unlink()
        if guest.all("boot") or accelerator == "tcg":
            return guest
    raise AssertionError("the last accelerator is returned from")


def _run_guest(command, console, accelerator):
    """QEMU's output, once it has ended, has not booted in time, or has taken too long."""
    started = time.monotonic()
    with console.open("wb") as out:
        qemu = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        while qemu.poll() is None:
            seconds = time.monotonic() - started
            if seconds > _RUN_SECONDS:
                return _text(console) + f"\nthe guest did not end within {_RUN_SECONDS} s\n"
            if accelerator == "kvm" and seconds > _KVM_BOOT_SECONDS and "RESULT boot" not in _text(console):
                return _text(console)
            time.sleep(1)
        return _text(console)
    finally:
        qemu.kill()
        qemu.wait()


def _text(path):
    return path.read_text(encoding="utf-8", errors="replace").replace("\r", "")


def report(kernel, guest, seconds):
    """Prints what a kernel's run said; (passed, failed, skipped)."""
    passed = failed = skipped = 0
    print(f"== {kernel.suite}: Linux {kernel.release}, {seconds:.0f} s")
    for ok, bad, left in guest.all("tests"):
        print(f"   conformance suite: {ok} passed, {bad} failed, {left} skipped (engines that do not work here)")
        passed, failed, skipped = passed + int(ok), failed + int(bad), skipped + int(left)
    for setting, engine, outcome, *why in guest.all("lazy"):
        shown = f"engine = {setting}: {engine}" if setting == "auto" else f"engine = {setting}"
        print(f"   lazy mount with {shown}: {outcome.upper()} {' '.join(why)}".rstrip())
        passed += outcome == "pass"
        failed += outcome == "fail" or (outcome == "skip" and setting == "auto")
        skipped += outcome == "skip" and setting != "auto"
    for leak in guest.all("leak"):
        print(f"   left behind: {leak[0]}")
        failed += 1
    if not guest.ended():
        print("   the guest did not come to its end")
        failed += 1
    if failed:
        print("\n".join("   | " + line for line in guest.output.splitlines()[-150:]))
    return passed, failed, skipped


def main(suites):
    reason = missing()
    if reason:
        print(f"SKIP check-kernels: {reason}\n0 passed, 0 failed, 1 skipped")
        return 0
    os.environ["PATH"] += ":/sbin:/usr/sbin"
    totals = [0, 0, 0]
    work = run.new_dir("kernels")
    try:
        debian.unpack_package("busybox-static", work / "package")
        busybox = work / "package/bin/busybox"
        if not busybox.exists():
            busybox = work / "package/usr/bin/busybox"
        root_disk = disk.build(work, busybox)
        for suite in suites:
            try:
                kernel = kernels.get(suite)
            except debian.BuildError as error:
                print(f"\nSKIP {suite} (Linux {kernels.SUITES[suite]}): {error}")
                totals[2] += 1
                continue
            print(f"\nbooting {kernel.release}", flush=True)
            started = time.monotonic()
            guest = boot(kernel, root_disk, work, busybox)
            totals = [a + b for a, b in zip(totals, report(kernel, guest, time.monotonic() - started))]
            sys.stdout.flush()
    finally:
        run.remove_dir(work)
    print("\n{} passed, {} failed, {} skipped".format(*totals))
    return 1 if totals[1] else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was made is removed
    sys.exit(main(sys.argv[1:] or list(kernels.SUITES)))
