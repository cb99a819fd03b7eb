#!/bin/sh
# What `make install` does: relay in a Python environment of its own, its units, its pages and its settings.
#
# PREFIX     where it will be: /usr/local, /usr, /opt/relay (default /usr/local)
# DESTDIR    what stands before all paths while a package is made; "" installs on this machine
# EXTRAS     what it has beside that, by the names of pyproject.toml: postgresql, otel (default nothing)
# PYTHON     the interpreter that will run it (default python3)
# PIP_PYTHON an interpreter that has pip (default PYTHON)
#
# Run again it replaces what it installed before; settings that are there stay as they are.
set -eu
umask 022

PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
EXTRAS=${EXTRAS:-}
PYTHON=${PYTHON:-python3}
PIP_PYTHON=${PIP_PYTHON:-$PYTHON}
sources=$(cd "$(dirname "$0")/../.." && pwd)
home=$PREFIX/lib/relay
new=$DESTDIR$home.new
listed=$DESTDIR$home.files
work=$(mktemp -d)
trap 'rm -rf "$work" "$new"' EXIT

fail() {
    echo "$1" >&2
    exit 1
}

case $PREFIX in
/*) ;;
*) fail "PREFIX=$PREFIX is no absolute path; call: make install PREFIX=/usr/local" ;;
esac

# systemd looks below these two; for any other place the administrator's folder in /etc is the one that it reads.
case $PREFIX in
/usr | /usr/local) lib=$PREFIX/lib && units=$lib/systemd/system ;;
*) lib=/etc && units=/etc/systemd/system ;;
esac

check_python() {
    # ProtectHome= of the unit hides home folders, and the user relay may not look into them either.
    "$PYTHON" - <<'END'
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"Relay needs Python 3.11 or newer; this is {sys.version.split()[0]}. Call: make install PYTHON=python3.11")
base = Path(sys._base_executable).resolve()
closed = [str(folder) for folder in base.parents if not folder.stat().st_mode & 0o001]
if closed or base.is_relative_to("/home"):
    sys.exit(f"the service could not run {base}, which is in a private folder; call: make install PYTHON=/usr/bin/python3")
END
}

# Everything but the environment is written by this, so that `make uninstall` knows it.
put() {
    install -D -m "$1" "$2" "$DESTDIR$3"
    echo "$3" >>"$work/files"
}

make_environment() {
    # A build leaves its folders beside the sources, and takes what an older one left there.
    mkdir "$work/sources"
    (cd "$sources" && tar -cf - --exclude=__pycache__ pyproject.toml README.md LICENSE relay docs/man etc/completions) |
        tar -xf - -C "$work/sources"
    rm -rf "$new"
    mkdir -p "$DESTDIR$PREFIX/lib"
    "$PYTHON" -m venv --without-pip "$new"
    "$PIP_PYTHON" -m pip --python "$new/bin/python" --quiet --disable-pip-version-check install --no-compile \
        --constraint "$sources/constraints.txt" "$work/sources${EXTRAS:+[$EXTRAS]}"
    # Where it was made is not where it will be: the programs are written anew, and nothing else names the place. The
    # manual pages and completions of the wheel are put where the system's are.
    find "$new/bin" -mindepth 1 ! -name 'python*' -delete
    rm -rf "$new/share"
    find "$new" -name direct_url.json -delete
    sed -i '/^command = /d' "$new/pyvenv.cfg"
    "$new/bin/python" -I - "$home" "$new" "$sources/pyproject.toml" <<'END'
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

home, new, project = sys.argv[1:]
name = tomllib.loads(Path(project).read_text())["project"]["name"]
for entry in distribution(name).entry_points.select(group="console_scripts"):
    # -I: no library of the caller's folder or environment comes in the place of ours.
    lines = (f"#!{home}/bin/python -I", "import sys", f"from {entry.module} import {entry.attr}", f"sys.exit({entry.attr}())")
    program = Path(new, "bin", entry.name)
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
END
    # Whoever runs it may not write beside the sources. What is compiled counts whatever times the files get on their way.
    "$new/bin/python" -I -m compileall -q --invalidation-mode unchecked-hash -s "$new" -p "$home" "$new/lib"
}

swap_environment() {
    rm -rf "$DESTDIR$home.old"
    [ ! -e "$DESTDIR$home" ] || mv "$DESTDIR$home" "$DESTDIR$home.old"
    mv "$new" "$DESTDIR$home"
    rm -rf "$DESTDIR$home.old"
}

put_programs() {
    mkdir -p "$DESTDIR$PREFIX/bin"
    for program in relay relay-sendmail; do
        ln -sfn "../lib/relay/bin/$program" "$DESTDIR$PREFIX/bin/$program"
        echo "$PREFIX/bin/$program" >>"$work/files"
    done
}

put_units() {
    for unit in "$sources"/systemd/relay*.service "$sources"/systemd/relay*.socket; do
        sed "s|/opt/relay/bin/|$PREFIX/bin/|g" "$unit" >"$work/unit"
        put 644 "$work/unit" "$units/${unit##*/}"
    done
    for kind in sysusers.d tmpfiles.d; do
        put 644 "$sources/systemd/$kind/relay.conf" "$lib/$kind/relay.conf"
    done
}

put_completions() {
    for target in bash-completion/completions/relay zsh/site-functions/_relay fish/vendor_completions.d/relay.fish; do
        put 644 "$sources/etc/completions/${target##*/}" "$PREFIX/share/$target"
    done
}

put_pages() {
    for page in "$sources"/docs/man/*.[1-8]; do
        [ ! -e "$page" ] || put 644 "$page" "$PREFIX/share/man/man${page##*.}/${page##*/}"
    done
    for page in README.md CHANGELOG.md LICENSE; do
        put 644 "$sources/$page" "$PREFIX/share/doc/relay/$page"
    done
    (cd "$sources/docs" && find . -name '*.md' -type f) | while read -r page; do
        put 644 "$sources/docs/$page" "$PREFIX/share/doc/relay/docs/${page#./}"
    done
    (cd "$sources/etc" && find . \( -path ./packaging -o -path ./completions \) -prune -o -type f -print) | while read -r example; do
        put 644 "$sources/etc/$example" "$PREFIX/share/doc/relay/examples/${example#./}"
    done
}

put_settings() {
    # relay.toml as it comes changes nothing: every key is a comment with its default.
    [ -e "$DESTDIR/etc/relay/relay.toml" ] || install -D -m 644 "$sources/etc/relay.toml" "$DESTDIR/etc/relay/relay.toml"
}

check_python
make_environment
swap_environment
put_programs
put_units
put_pages
put_completions
put_settings
install -m 644 "$work/files" "$listed"

if [ -z "$DESTDIR" ]; then
    echo "Relay is in $PREFIX/bin. To let systemd run it:"
    echo "  systemd-sysusers && systemd-tmpfiles --create relay.conf"
    echo "  systemctl daemon-reload && systemctl enable --now relay"
fi
