#!/bin/bash
# Sets up what the tests need (Debian packages, a virtual environment) and runs them all; arguments go to pytest.
#   ./test.sh                 checks and all tests
#   ./test.sh tests/unit -x   only these
set -euo pipefail
cd "$(dirname "$0")"

packages=(python3-venv busybox-static docker-registry nftables iptables iproute2 util-linux procps curl git gcc libc6-dev \
          bind9-dnsutils libseccomp2 skopeo umoci tmux vim-tiny make apache2-utils openssl ca-certificates \
          qemu-system-x86 user-mode-linux kmod e2fsprogs zstd xz-utils lz4 uidmap dbus systemd systemd-sysv \
          podman containerd tcpdump)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { echo "test.sh: needs root to install: ${missing[*]}" >&2; exit 2; }
    apt-get update -qq
    # what a test starts, it starts itself: no service of these packages may run
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.corten && chmod 755 /usr/sbin/policy-rc.d.corten
    [ -e /usr/sbin/policy-rc.d ] || { mv /usr/sbin/policy-rc.d.corten /usr/sbin/policy-rc.d; ours=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    rm -f /usr/sbin/policy-rc.d.corten; [ -z "${ours:-}" ] || rm -f /usr/sbin/policy-rc.d
fi

# a browser for the gateway's page (tests/gateway/test_gateway_ui.py); some systems have none as a package
if ! command -v chromium-headless-shell >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium-headless-shell \
        fonts-dejavu-core >/dev/null || echo "test.sh: no chromium-headless-shell here" >&2
fi

# the docker CLI, and its daemon where no service and no PATH finds it (tests/callers)
callers=/usr/local/lib/corten-callers
if ! command -v docker >/dev/null || [ ! -x $callers/dockerd ]; then
    scratch=$(mktemp -d)
    (cd "$scratch" && apt-get download -qq docker.io && dpkg -x docker.io_*.deb x)
    command -v docker >/dev/null || install -m 755 "$scratch/x/usr/bin/docker" /usr/local/bin/docker
    install -D -m 755 "$scratch/x/usr/sbin/dockerd" $callers/dockerd
    rm -rf "$scratch"
fi

python=/usr/bin/python3
[ -x .venv/bin/python ] || "$python" -m venv .venv
stamp=.venv/.dev-$(sha256sum pyproject.toml | cut -c1-16)
if [ ! -e "$stamp" ]; then
    .venv/bin/pip install -q --disable-pip-version-check -e '.[fast,gateway,dev]'
    touch "$stamp"
fi

if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
make --no-print-directory check-static
exec .venv/bin/python -m pytest tests
