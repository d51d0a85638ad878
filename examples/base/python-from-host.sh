#!/bin/sh
# A base image without a hub: this Debian machine's own python3, sh and coreutils with the libraries they need,
# packed with tar and imported. Nothing is downloaded; root is not needed to pack, only to talk to the engine.
# sh is bash here: `sh -c program` becomes the program, where Debian's dash stays above it, as process 1 that lets
# SIGTERM drop. So an ENTRYPOINT in the shell form stops at once, not after ten seconds.
#
#   ./python-from-host.sh [NAME]              imports with corten; NAME is python-host if not given
#   ENGINE=docker ./python-from-host.sh NAME  imports with docker
#   ENGINE=cat ./python-from-host.sh >x.tar   only writes the tar
set -eu
name=${1:-python-host}
engine=${ENGINE:-corten}
python=$(readlink -f "$(command -v python3)")
[ -x "$python" ] || { echo "python3 is not installed" >&2; exit 1; }
case $python in /usr/bin/*) ;; *) python=$(readlink -f /usr/bin/python3) ;; esac
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
root=$work/root
umask 022
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/tmp" "$root/root" \
    "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/var/tmp" "$root/var/log"
ln -s usr/bin "$root/bin"; ln -s usr/sbin "$root/sbin"; ln -s usr/lib "$root/lib"; ln -s usr/lib64 "$root/lib64"
ln -s ../run "$root/var/run"
chmod 1777 "$root/tmp" "$root/var/tmp"; chmod 700 "$root/root"

# programs: python, the shell, everything of coreutils and a few that one looks around with
{
    echo "$python"; echo /usr/bin/python3; echo /usr/bin/bash
    dpkg -L coreutils | sed 's,^/bin/,/usr/bin/,' | grep '^/usr/bin/'
    for program in grep sed find xargs hostname ps; do command -v "$program" || true; done
} | sed 's,^/bin/,/usr/bin/,' | sort -u >"$work/programs"
# Python's library without its tests, its caches and what Debian packages add
find "/usr/lib/python$version" \( -name __pycache__ -o -name test -o -name tests -o -name idlelib -o -name tkinter \
    -o -name ensurepip -o -name lib2to3 -o -name 'config-*' -o -name dist-packages \) -prune -o \
    \( -type f -o -type l \) -print >"$work/library"
# the libraries that any of these is linked to, and the loader
grep -E '\.so' "$work/library" | cat - "$work/programs" | xargs -r ldd 2>/dev/null |
    sed -n 's,.*=> \(/[^ ]*\) (.*,\1,p; s,^[[:space:]]*\(/[^ ]*\) (.*,\1,p' | sort -u >"$work/libraries"

sort -u "$work/programs" "$work/library" "$work/libraries" | while IFS= read -r file; do
    [ -e "$file" ] || continue
    where=$root/usr/${file#/usr/}
    case $file in /usr/*) ;; /lib/* | /lib64/*) where=$root/usr$file ;; *) continue ;; esac
    echo "$file" "$where"
done >"$work/copies"
cut -d' ' -f2 "$work/copies" | sed 's,/[^/]*$,,' | sort -u | xargs mkdir -p
while read -r file where; do
    if [ -L "$file" ] && [ "$(dirname "$(readlink -f "$file")")" = "$(readlink -f "$(dirname "$file")")" ]; then
        cp -a "$file" "$where"                                # a link to a neighbour stays one
        target=$(readlink -f "$file")
        cp -an "$target" "$(dirname "$where")/" 2>/dev/null || true
    else
        cp -L --preserve=mode,timestamps "$file" "$where"
    fi
done <"$work/copies"

ln -s bash "$root/usr/bin/sh"
echo 'root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'root:x:0:
nogroup:x:65534:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

tar_root() { tar -C "$root" --sort=name --numeric-owner --owner=0 --group=0 -cf - .; }
if [ "$engine" = cat ]; then
    tar_root
else
    tar_root | $engine import --message "packed from this host" \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'CMD ["python3"]' - "$name"
fi
