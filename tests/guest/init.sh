#!/bin/busybox sh
# First process of the guest, in the initramfs: the root from the first disk, the working tree from the second.
b=/bin/busybox
$b mkdir -p /proc /dev /sys /root
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read -r module; do $b modprobe -q "$module" 2>/dev/null; done </modules
disk=/dev/vda tree=/dev/vdb
[ -e /dev/ubda ] && disk=/dev/ubda tree=/dev/ubdb
$b mount -t ext4 -o rw,noatime $disk /root || { echo "no root disk"; $b poweroff -f; }
$b mkdir -p /root/usr/lib/modules
$b cp -a /lib/modules/. /root/usr/lib/modules/
$b tar -xf $tree -C /root/srv
# shellcheck disable=SC1091
. /root/srv/settings
$b umount /dev /proc
exec $b switch_root /root "$INIT"
