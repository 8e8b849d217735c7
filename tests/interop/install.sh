#!/bin/sh
# Install the server programs that tests/interop/ talks to. Debian and Ubuntu; needs root, or sudo.
#
#   tests/interop/install.sh
#
# Nothing is started: the tests run each server themselves, on loopback, in a temporary directory.
set -eu
packages="redis-server postgresql nats-server chromium tmux tshark"
# What may be here by other means than a package. C# is the chat's client for Unity: Mono is what Unity runs.
command -v node >/dev/null || packages="$packages nodejs"
command -v go >/dev/null || packages="$packages golang-go"
command -v mcs >/dev/null || packages="$packages mono-mcs libmono-system-runtime-serialization4.0-cil"
command -v apt-get >/dev/null || { echo "no apt-get here: install $packages by this system's own means" >&2; exit 1; }
root=""
[ "$(id -u)" = 0 ] || root="sudo"

missing=""
for package in $packages; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" ||
        missing="$missing $package"
done
[ -n "$missing" ] || { echo "already installed: $packages"; exit 0; }

# Packages start their servers when they are installed; a policy of 101 forbids it. One that is there already is kept.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod +x "$policy"
    trap '$root rm -f "$policy"' EXIT
fi
$root apt-get update --quiet
# shellcheck disable=SC2086  # a list on purpose
$root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $missing
