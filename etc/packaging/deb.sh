#!/bin/sh
# What `make deb` does: build/relay_VERSION_ARCHITECTURE.deb, for the Debian that it is made on.
#
# PIP_PYTHON an interpreter that has pip (default python3)
# VERSION    the package's version (default that of pyproject.toml, and -1)
# OUTPUT     the folder for the package (default build)
set -eu
umask 022

sources=$(cd "$(dirname "$0")/../.." && pwd)
OUTPUT=${OUTPUT:-$sources/build}
VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' "$sources/pyproject.toml")-1}
architecture=$(dpkg --print-architecture)
# Debian's own Python, whatever else this machine has: the package depends on it.
python=/usr/bin/python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

PREFIX=/usr DESTDIR=$root PYTHON=$python PIP_PYTHON=${PIP_PYTHON:-python3} "$sources/etc/packaging/install.sh"
# dpkg keeps its own list.
rm "$root/usr/lib/relay.files"

doc=$root/usr/share/doc/relay
rm "$doc/LICENSE"
mv "$doc/CHANGELOG.md" "$doc/changelog"
gzip -9n "$doc/changelog"
[ ! -d "$root/usr/share/man" ] || find "$root/usr/share/man" -type f -exec gzip -9n {} +

# Debian's zsh looks for those of packages in a folder of its own.
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"

control=$root/DEBIAN
mkdir -m 755 "$control"
"$python" - "$sources" "$root" "$VERSION" "$architecture" <<'END'
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

sources, root, version, architecture = sys.argv[1:]
debian = Path(sources, "etc/packaging/debian")
files = [path for path in Path(root).rglob("*") if path.is_file() and not path.is_symlink()]
license_text = Path(sources, "LICENSE").read_text()
copyright_line, body = license_text.partition("\n\n")[2].split("\n\n", 1)
values = {
    "VERSION": version,
    "ARCHITECTURE": architecture,
    "SIZE": str(sum(path.stat().st_size for path in files) // 1024),
    "DATE": format_datetime(datetime.now(UTC)),
    "PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
    "NEXT_PYTHON": f"{sys.version_info.major}.{sys.version_info.minor + 1}",
    "COPYRIGHT": copyright_line.removeprefix("Copyright (c) "),
    "LICENSE": "\n".join(f" {line}" if line else " ." for line in body.rstrip().splitlines()),
}
templates = {
    "control.in": "DEBIAN/control",
    "changelog.in": "usr/share/doc/relay/changelog.Debian",
    "copyright.in": "usr/share/doc/relay/copyright",
}
for template, target in templates.items():
    text = (debian / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    Path(root, target).write_text(text)
END
gzip -9n "$doc/changelog.Debian"
install -m 644 "$sources/etc/packaging/debian/conffiles" "$control/conffiles"
for script in postinst prerm postrm; do
    install -m 755 "$sources/etc/packaging/debian/$script" "$control/$script"
done
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$control/md5sums"

mkdir -p "$OUTPUT"
package=$OUTPUT/relay_${VERSION}_$architecture.deb
# zstd: xz would save three of 18 MB and take twenty times as long.
dpkg-deb --root-owner-group -Zzstd --build "$root" "$package" >/dev/null
echo "$package"
