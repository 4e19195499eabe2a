#!/usr/bin/env bash
# Sets up stablediffusiond: for a first picture, for the tests, or for good. `./install.sh --help` says how.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=${INSTALL_VENV:-$HERE/.venv}
LOG=$HERE/build/install.log
PREFIX=/opt/stablediffusiond
SETTINGS=/etc/stablediffusiond/settings.toml
UNITS=(stablediffusiond.service stablediffusion_responsed.service)
CLIENT=/usr/local/bin/stablediffusion_client
CPU_INDEX=https://download.pytorch.org/whl/cpu

usage() {
  cat <<'HELP'
./install.sh demo ["PROMPT"] [--output FILE] [--seed N]   draw one picture with everything set up in this checkout
./install.sh test [PYTEST ARGUMENTS]                      the same set-up and the developers' tools, then all tests
./install.sh set-up [demo|test]                           only the set-up of one of the two
sudo ./install.sh                                         install for good: /opt, /etc, systemd units, started
sudo ./install.sh uninstall                               undo that; settings and queues stay

Wanted: Debian 12 or later, or Ubuntu 24.04; root or sudo, where a package is missing. Nothing is asked.

TORCH_INDEX_URL         the package index to take torch from
INSTALL_VENV            a virtual environment that is set up already, to be used instead of .venv
HELP
}

say() { printf '%s\n' "==> $*" >&2; }
fail() { printf '%s\n' "install.sh: $*" >&2; exit 1; }

# Runs a command with its output in the log; where it fails, the end of the log says why.
quietly() {
  mkdir -p "$(dirname "$LOG")"
  printf '\n$ %s\n' "$*" >>"$LOG"
  "$@" >>"$LOG" 2>&1 || { tail -n 20 "$LOG" >&2; fail "'$*' failed; all of it is in $LOG"; }
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    fail "needs root for: $*; install sudo, or run this once as root"
  fi
}

# --- packages of the system

# need PROGRAM PACKAGE ...: the packages whose programs are missing
missing=()
need() {
  while [ $# -gt 0 ]; do
    command -v "$1" >/dev/null || [ -e "$1" ] || missing+=("$2")
    shift 2
  done
}

install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "this system has no apt-get; install these yourself: ${missing[*]}"
  say "installing ${missing[*]}"
  if [ "${START_SERVICES:-no}" = yes ]; then
    apt_install "${missing[@]}"
  else
    without_starting_services apt_install "${missing[@]}"
  fi
}

apt_install() {
  quietly as_root apt-get update -qq
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# The demo and the tests bring their own broker: installing the package must not start another for the whole machine,
# neither now nor when it boots.
without_starting_services() {
  local policy=/usr/sbin/policy-rc.d
  if [ -e $policy ]; then
    "$@"
  else
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    "$@"
    as_root rm -f $policy
    trap - EXIT
  fi
  if [[ " ${missing[*]} " = *" rabbitmq-server "* ]] && command -v systemctl >/dev/null; then
    quietly as_root systemctl disable rabbitmq-server.service
  fi
}

set_up_system() {
  need python3 python3 /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if [ "$1" = test ]; then
    need amqp-publish amqp-tools nc netcat-openbsd jq jq node nodejs npm npm ip iproute2 pgrep procps \
      systemd-analyze systemd systemd-nspawn systemd-container sudo sudo shellcheck shellcheck unshare util-linux
  fi
  install_missing
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or later is needed; this is $(python3 --version)"
}

# --- Python

# torch first, and by itself: without a GPU nobody shall download gigabytes of CUDA.
install_torch() {
  local python=$1/bin/python
  "$python" -c 'import torch' 2>/dev/null && return
  say "installing torch"
  if [ -n "${TORCH_INDEX_URL:-}" ]; then
    quietly "$python" -m pip install -q --index-url "$TORCH_INDEX_URL" torch
  elif command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    quietly "$python" -m pip install -q torch
  elif plain_torch_is_small "$python"; then
    quietly "$python" -m pip install -q torch==2.13.0
  else
    quietly "$python" -m pip install -q --index-url "$CPU_INDEX" torch
  fi
}

plain_torch_is_small() {
  local plan
  plan=$("$1" -m pip install -q --dry-run --ignore-installed --report - torch==2.13.0 2>>"$LOG") || return 1
  ! grep -q '"name": "nvidia-' <<<"$plan"
}

# install_package VENV WHAT...: torch, then pip's WHAT
install_package() {
  local venv=$1
  shift
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making a Python environment in $venv"
    quietly python3 -m venv "$venv"
  fi
  install_torch "$venv"
  say "installing stablediffusiond and what it needs"
  quietly "$venv/bin/python" -m pip install -q "$@"
}

# make_model PYTHON FOLDER
make_model() {
  [ -e "$2/model_index.json" ] && return
  say "making the stand-in for the built-in model (random weights: it paints noise)"
  quietly "$1" -m stablediffusiond.engine.placeholder "$2"
}

# The environment of this checkout, made anew if pyproject.toml has changed since the last time.
set_up_venv() {
  local stamp=$VENV/.installed extras=engine wanted
  # What the tests need is kept once it is there.
  if [ "$1" = test ] || grep -qs 'engine,dev' "$stamp"; then extras=engine,dev; fi
  wanted="$(sha256sum <"$HERE/pyproject.toml") ${HERE}[$extras]"
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  install_package "$VENV" -e "${HERE}[$extras]"
  printf '%s' "$wanted" >"$stamp"
}

set_up() {
  if [ -n "${INSTALL_VENV:-}" ]; then
    [ -x "$VENV/bin/python" ] || fail "INSTALL_VENV: there is no $VENV/bin/python"
  else
    set_up_system "$1"
    set_up_venv "$1"
  fi
  make_model "$VENV/bin/python" "$HERE/stablediffusiond/doodle"
}

# --- for good

require_root() {
  [ "$(id -u)" = 0 ] || fail "installing for good needs root: sudo ./install.sh"
  [ -d /run/systemd/system ] || fail "this machine does not run systemd; './install.sh demo' works without"
}

install_for_good() {
  require_root
  umask 022
  LOG=/var/log/stablediffusiond-install.log
  START_SERVICES=yes set_up_system for-good
  make_user
  install_copy
  install_settings
  say "starting the services"
  install -m 644 "${UNITS[@]/#/$HERE/systemd/}" /etc/systemd/system/
  ln -sf "$PREFIX/bin/stablediffusion_client" $CLIENT
  quietly systemctl daemon-reload
  quietly systemctl start rabbitmq-server.service
  quietly systemctl enable "${UNITS[@]}"
  quietly systemctl restart "${UNITS[@]}"
  say "stablediffusiond runs; try: stablediffusion_client \"a red cat\" -o cat.png"
}

make_user() {
  local group
  id stablediffusiond >/dev/null 2>&1 ||
    quietly useradd --system --user-group --home-dir /var/lib/stablediffusiond --shell /usr/sbin/nologin stablediffusiond
  # Those that may use a GPU; here and not in the unit, which would not start on a machine that lacks one of them.
  for group in video render; do
    if getent group $group >/dev/null; then quietly usermod -aG $group stablediffusiond; fi
  done
}

# From a copy of the sources, because setuptools builds where they are, and takes along what it finds there.
install_copy() {
  local sources model
  sources=$(mktemp -d)
  cp -r "$HERE"/{stablediffusiond,pyproject.toml,README.md,LICENSE} "$sources"
  install_package "$PREFIX" "${sources}[engine]"
  rm -rf "$sources"
  cd /
  model=$("$PREFIX/bin/python" -c 'import stablediffusiond; print(stablediffusiond.__path__[0])')/doodle
  make_model "$PREFIX/bin/python" "$model"
}

# Everybody's client reads them too. With a password in them: chmod 640, and who may draw joins the group.
install_settings() {
  if [ -e $SETTINGS ]; then
    say "keeping $SETTINGS"
    chgrp stablediffusiond $SETTINGS
  else
    install -D -m 644 -g stablediffusiond "$HERE/settings.example.toml" $SETTINGS
  fi
}

uninstall() {
  require_root
  say "removing the services; $SETTINGS, RabbitMQ and its queues stay"
  systemctl disable --now "${UNITS[@]}" 2>/dev/null || true
  rm -f "${UNITS[@]/#//etc/systemd/system/}" $CLIENT
  rm -rf $PREFIX /var/lib/stablediffusiond /var/cache/stablediffusiond
  systemctl daemon-reload
  if id stablediffusiond >/dev/null 2>&1; then userdel stablediffusiond; fi
}

case ${1-} in
  demo) shift; set_up demo; exec "$VENV/bin/python" "$HERE/tools/demo.py" "$@" ;;
  test) shift; set_up test; cd "$HERE"; exec "$VENV/bin/python" -m pytest "$@" ;;
  set-up) set_up "${2:-demo}" ;;
  uninstall) uninstall ;;
  '') install_for_good ;;
  -h | --help) usage ;;
  *) usage >&2; fail "unknown: $1" ;;
esac
