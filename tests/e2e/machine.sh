#!/bin/bash
# usage: machine.sh FOLDER LAYER VENV   Boots systemd as process 1 of namespaces of its own. Its
# root is this machine's with the files of the folder LAYER over it, /opt/nixery is the virtual
# environment VENV, and whatever is written goes to memory. FOLDER is for mounts.
set -eu
folder=$1 layer=$2 venv=$3

# A group of its own, so that systemd finds no other's.
top=$(findmnt --noheadings --first-only --output TARGET --types cgroup2)
group=$(mktemp --directory "$top/nixery-tests-XXXXXXXX")
echo $$ > "$group/cgroup.procs"
echo "$group" > "$folder/group"

boot() {
    mount --make-rprivate /
    mkdir -p "$folder/memory" "$folder/root"
    mount -t tmpfs tmpfs "$folder/memory"
    mkdir "$folder/memory/"{files,work,venv,venv-work}
    cp -a "$layer/." "$folder/memory/files/"
    mount -t overlay overlay "$folder/root" \
        -o "lowerdir=/,upperdir=$folder/memory/files,workdir=$folder/memory/work"
    cd "$folder/root"
    mkdir -p opt/nixery
    mount -t overlay overlay opt/nixery \
        -o "lowerdir=$venv,upperdir=$folder/memory/venv,workdir=$folder/memory/venv-work"
    cp -a opt/layer/venv/. opt/nixery/
    # Not what is installed here, and nothing that changes the kernel, which is not its own.
    rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
    for unit in systemd-sysctl systemd-modules-load systemd-binfmt systemd-udevd \
        systemd-udev-trigger systemd-remount-fs systemd-tmpfiles-setup systemd-tmpfiles-setup-dev \
        systemd-random-seed; do
        ln -sf /dev/null "etc/systemd/system/$unit.service"
    done
    for unit in sys-kernel-config sys-kernel-debug sys-kernel-tracing sys-fs-fuse-connections \
        dev-hugepages dev-mqueue; do
        ln -sf /dev/null "etc/systemd/system/$unit.mount"
    done
    ln -sf /dev/null etc/systemd/system/proc-sys-fs-binfmt_misc.automount
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount --rbind /dev dev
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mkdir run/old
    pivot_root . run/old
    umount --lazy /run/old
    systemd-sysusers
    # As after an installation: so that the list of plugins is there.
    /opt/nixery/bin/twistd --help > /dev/null
    exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --log-target=journal --unit=sysinit.target
}
export folder layer venv
export -f boot
exec unshare --mount --pid --uts --ipc --cgroup --net --fork --kill-child bash -euc boot
