#!/bin/bash
# usage: debian.sh ROOT FOLDER COMMAND…   Runs a command in namespaces of its own, in the root folder
# ROOT, of which it changes nothing: what it writes goes to memory, and to FOLDER, which has the
# same path there as here.
set -eu
root=$1 folder=$2
shift 2

enter() {
    mount --make-rprivate /
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/{files,work,root}
    cd /mnt/root
    mount -t overlay overlay . -o "lowerdir=$root,upperdir=/mnt/files,workdir=/mnt/work"
    cd /mnt/root
    mkdir -p "./$folder"
    mount --bind "$folder" "./$folder"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    mkdir run/old
    cp /etc/hosts /etc/resolv.conf /etc/passwd /etc/group etc/
    pivot_root . run/old
    cd /
    export PATH=/usr/sbin:/usr/bin
    exec "$@"
}
export root folder
export -f enter
exec unshare --mount --pid --fork --kill-child bash -euc 'enter "$@"' enter "$@"
