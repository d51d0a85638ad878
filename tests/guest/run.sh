#!/bin/bash
# In the guest: what a distribution's own start would do, the command, its exit code, and the end. Also run by systemd.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
. /srv/settings   # KIND, USER_NAME, NOW
if [ $$ = 1 ]; then
    mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
    mkdir -p /dev/pts /dev/shm /dev/mqueue
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
    mount -t tmpfs -o mode=1777 shm /dev/shm; mount -t mqueue mq /dev/mqueue
    mount -t tmpfs -o mode=755 run /run; mkdir /run/lock
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
    mount -t bpf bpf /sys/fs/bpf 2>/dev/null
    ln -sf /proc/self/fd /dev/fd; ln -sf fd/0 /dev/stdin; ln -sf fd/1 /dev/stdout; ln -sf fd/2 /dev/stderr
    mkdir /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs
    for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control; done
    date -s "@$NOW" >/dev/null; ip link set lo up; echo guest >/proc/sys/kernel/hostname
fi
sysctl -q -w net.ipv4.ip_forward=1 2>/dev/null
[ -e /dev/ttyS0 ] && case $KIND in uml) out=/dev/ttyS0 code=/dev/ttyS1 ;; *) out=/dev/ttyS1 code=/dev/ttyS2 ;; esac
stty -F $out raw -echo; stty -F $code raw -echo
cd /srv/corten || exit
export PYTHONPATH=/srv/corten/src PYTHONDONTWRITEBYTECODE=
if [ "$USER_NAME" = root ]; then
    bash /srv/command </dev/null >$out 2>&1
else
    useradd -m -U -K SUB_UID_COUNT=0 -K SUB_GID_COUNT=0 -s /bin/bash "$USER_NAME"
    echo "$USER_NAME:100000:65536" | tee -a /etc/subuid >>/etc/subgid
    id=$(id -u "$USER_NAME"); mkdir -p -m 700 "/run/user/$id"
    lane=/sys/fs/cgroup/lane; mkdir -p $lane
    for c in $(cat $lane/cgroup.controllers); do echo "+$c" >$lane/cgroup.subtree_control; done
    mkdir $lane/command; echo $$ >$lane/command/cgroup.procs
    chown "$USER_NAME:" "/run/user/$id" $lane $lane/cgroup.* $lane/command $lane/command/cgroup.procs
    chown -R "$USER_NAME:" /srv/corten
    setpriv --reuid="$id" --regid="$id" --init-groups env HOME="/home/$USER_NAME" USER="$USER_NAME" \
        XDG_RUNTIME_DIR="/run/user/$id" bash /srv/command </dev/null >$out 2>&1
fi
echo "ended $?" >$code
sync
echo 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger; sleep 10
