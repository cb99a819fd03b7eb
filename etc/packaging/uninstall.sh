#!/bin/sh
# What `make uninstall` does: takes away what install.sh put there, by the list that it left; PREFIX and DESTDIR as there.
# Settings, mail, passwords and the user stay.
set -eu

PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
home=$PREFIX/lib/relay
listed=$DESTDIR$home.files

if [ ! -e "$listed" ]; then
    echo "there is no $listed: nothing was installed by make install PREFIX=$PREFIX" >&2
    exit 1
fi
while read -r path; do
    rm -f "$DESTDIR$path"
done <"$listed"
rm -rf "$DESTDIR$home" "$listed"
# Of the folders only those that are ours.
for folder in "$DESTDIR$PREFIX/share/doc/relay" "$DESTDIR$PREFIX"; do
    case $folder in
    */relay) [ ! -d "$folder" ] || find "$folder" -depth -type d -empty -delete ;;
    esac
done

if [ -z "$DESTDIR" ]; then
    echo "Relay is gone; /etc/relay and /var/lib/relay are as they were."
    echo "A service that still runs ends by: systemctl disable --now relay, before systemctl daemon-reload"
fi
