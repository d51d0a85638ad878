#!/bin/bash
# usage: fetch_plugin.sh FOLDER [PACKAGE] : a plugin of docker's command line from Debian's package of it, docker-compose
# or docker-buildx (sid; bookworm lacks them), as FOLDER/PACKAGE, which runs by itself. Nothing is installed, and apt's
# own lists are left alone.
set -euo pipefail
folder=$1; package=${2:-docker-compose}; work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$folder" "$work"/lists/partial "$work"/parts "$work"/archives/partial
mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1)
[ -n "$mirror" ] || mirror=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) {print $i; exit}}' /etc/apt/sources.list)
printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "$mirror" >"$work/parts/sid.sources"
apt() {
    apt-get -qq -o Dir::Etc::sourcelist=/nonexistent -o Dir::Etc::sourceparts="$work/parts" -o APT::Sandbox::User=root \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" -o Acquire::Languages=none -o Acquire::http::Timeout=30 "$@"
}
apt update
(cd "$work" && apt download "$package")
dpkg -x "$work/$package"_*.deb "$work/root"
install -m 755 "$(find "$work/root" -name "$package" -type f -perm -u+x -size +1M | head -1)" "$folder/$package"
