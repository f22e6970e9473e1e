#!/usr/bin/env bash
# Install what building, demo and tests need: setup.sh GROUP...   (groups: build demo test)
# Quick when nothing is missing. Debian packages come through apt when root or passwordless sudo
# allows; else one line says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package pairs; a command that is already there needs no package.
build=(python3:python3 gcc:gcc)
demo=(racket:racket)
test=(busybox:busybox-static racket:racket lua5.4:lua5.4 perl:perl sqlite3:sqlite3 git:git node:nodejs
  qemu-system-x86_64:qemu-system-x86 modprobe:kmod clang:clang musl-gcc:musl-tools gdb:gdb)

missing=()
for group in "$@"; do
  declare -n pairs=$group
  for pair in "${pairs[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
done
# The testbed's kernel; the cloud one has no KVM.
case " $* " in *" test "*)
  compgen -G '/lib/modules/*/kernel/arch/x86/kvm/kvm-amd.ko*' >/dev/null || missing+=(linux-image-amd64) ;;
esac
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
[ -e /usr/include/linux/kvm.h ] || missing+=(linux-libc-dev)
python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
  missing+=(python3-dev)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "setup: missing packages; install them: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo -n)
  fi
  echo "setup: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# A browser to look at pages with, where there is one to be had; the tests of pages skip without.
case " $* " in *" test "*)
  if ! command -v chromium >/dev/null && [ "$(id -u)" -eq 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null ||
      echo "setup: no chromium; tests of pages will be skipped" >&2
  fi ;;
esac

[ -x .venv/bin/python ] || python3 -m venv .venv
# Reinstall when something that goes into the package is newer than the last installation.
stamp=.venv/installed
if [ ! -e $stamp ] || [ -n "$(find core lib overrides src benchmarks docs/*.[13] meson.build pyproject.toml -newer $stamp -not -name '*.pyc' -print -quit)" ]; then
  .venv/bin/pip install --quiet --disable-pip-version-check '.[dev]'
  touch $stamp
fi
