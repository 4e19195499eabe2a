#!/usr/bin/env bash
# Sets up stablediffusiond: for a first picture, for the tests, or as a service. `./install.sh --help` says how.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=${INSTALL_VENV:-$HERE/.venv}
LOG=$HERE/build/install.log
PREFIX=/opt/stablediffusiond
CONFIG=/etc/stablediffusiond
SETTINGS=$CONFIG/settings.toml
UNITS=(stablediffusiond.target stablediffusiond.service stablediffusiond@.service
  stablediffusion_responsed.service stablediffusion_responsed.socket
  stablediffusion_gateway.service stablediffusion_gateway.socket)
DEVICES=10-devices.conf
SYSUSERS=/etc/sysusers.d/stablediffusiond.conf
TMPFILES=/etc/tmpfiles.d/stablediffusiond.conf
WANTED_BY_TARGET=/etc/systemd/system/stablediffusiond.target.wants
CLIENT=/usr/local/bin/stablediffusion_client
MANUAL=/usr/local/share/man
VHOST=stablediffusiond
# Where nvidia-smi is on WSL2, and not in sudo's PATH.
WSL_LIBRARIES=/usr/lib/wsl/lib
CPU_INDEX=https://download.pytorch.org/whl/cpu

usage() {
  cat <<'HELP'
./install.sh demo ["PROMPT"] [--output FILE] [--seed N]   draw one picture with everything set up in this checkout
./install.sh demo --web                                   the same, and then HTTP: prints the address, and serves until Ctrl-C
./install.sh test [PYTEST ARGUMENTS]                      the same set-up and the developers' tools, then all tests, in
                                                          several processes (-n 0: in one)
./install.sh test --fast                                  those that need nothing but Python, in less than a minute
./install.sh set-up [demo|test]                           only the set-up of one of the two
sudo ./install.sh [--dry-run]                             install as a service, or upgrade: /opt, /etc, systemd units, started
sudo ./install.sh --with-gateway                          the same, and stablediffusion_gateway: HTTP on localhost:50008
sudo ./install.sh uninstall [--purge]                     undo that; settings and queues stay, unless purged

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
    if [[ $1 = /* ]]; then [ -e "$1" ]; else command -v "$1" >/dev/null; fi || missing+=("$2")
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
# neither now nor when it boots; nor Erlang's epmd, unless it was there before.
without_starting_services() {
  local policy=/usr/sbin/policy-rc.d services=() each
  for each in rabbitmq-server nginx caddy; do
    if [[ " ${missing[*]} " = *" $each "* ]]; then services+=("$each.service"); fi
  done
  command -v epmd >/dev/null || [[ " ${missing[*]} " != *" rabbitmq-server "* ]] || services+=(epmd.service epmd.socket)
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
  if [ ${#services[@]} -gt 0 ] && command -v systemctl >/dev/null; then
    quietly as_root systemctl disable "${services[@]}"
  fi
}

set_up_system() {
  need python3 python3 /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if [ "$1" = test ]; then
    need amqp-publish amqp-tools nc netcat-openbsd jq jq node nodejs npm npm go golang-go ip iproute2 \
      pgrep procps systemd-analyze systemd systemd-nspawn systemd-container slirp4netns slirp4netns sudo sudo \
      shellcheck shellcheck unshare util-linux groff groff-base \
      gcc gcc /usr/include/stdio.h libc6-dev chromium chromium /usr/sbin/nginx nginx caddy caddy
  fi
  install_missing
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or later is needed; this is $(python3 --version)"
}

# --- Python

# with_pip PYTHON ...: pip, with room for the gigabytes that it unpacks: /tmp may lie in memory
with_pip() {
  local python=$1
  shift
  TMPDIR=${TMPDIR:-/var/tmp} "$python" -m pip "$@"
}

# torch first, and by itself: without a GPU, gigabytes of CUDA are not downloaded.
install_torch() {
  local python=$1/bin/python
  # pip writes RECORD last; to import torch takes seconds.
  "$python" -c 'import importlib.metadata as m, sys; sys.exit(not m.distribution("torch").read_text("RECORD"))' \
    2>/dev/null && return
  say "installing torch"
  if [ -n "${TORCH_INDEX_URL:-}" ]; then
    quietly with_pip "$python" install -q --index-url "$TORCH_INDEX_URL" torch
  elif PATH=$PATH:$WSL_LIBRARIES nvidia-smi -L >/dev/null 2>&1; then
    quietly with_pip "$python" install -q torch
  else
    say_who_has_torch
    if plain_torch_is_small "$python"; then
      quietly with_pip "$python" install -q torch==2.13.0
    else
      quietly with_pip "$python" install -q --index-url "$CPU_INDEX" torch
    fi
  fi
}

# For these GPUs the package index that pip asks by itself has no torch.
say_who_has_torch() {
  if [ -e /dev/kfd ]; then say "an AMD GPU: with TORCH_INDEX_URL, an index of builds for ROCm, torch would use it"; fi
  if [ -e /dev/nvmap ]; then say "a Jetson: with TORCH_INDEX_URL, an index of builds for JetPack, torch would use its GPU"; fi
}

plain_torch_is_small() {
  local plan
  plan=$(with_pip "$1" install -q --dry-run --ignore-installed --report - torch==2.13.0 2>>"$LOG") || return 1
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
  quietly with_pip "$venv/bin/python" install -q "$@"
  # By itself: it asks for torchvision, of which pip knows no build for CPUs, and does without it.
  quietly with_pip "$venv/bin/python" install -q --no-deps "spandrel>=0.4,<0.5"
}

# The environment of this checkout, made anew if pyproject.toml has changed since the last time.
set_up_venv() {
  local stamp=$VENV/.installed extras=engine,gateway wanted
  # What the tests need is kept once it is there.
  if [ "$1" = test ] || grep -qs 'gateway,dev' "$stamp"; then extras=engine,gateway,dev; fi
  wanted="$(sha256sum <"$HERE/pyproject.toml") ${HERE}[$extras]"
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  # Python compiles what is imported when it is: the first picture is there sooner than all of it is compiled.
  PIP_COMPILE=0 install_package "$VENV" -e "${HERE}[$extras]"
  printf '%s' "$wanted" >"$stamp"
}

set_up() {
  if [ -n "${INSTALL_VENV:-}" ]; then
    [ -x "$VENV/bin/python" ] || fail "INSTALL_VENV: there is no $VENV/bin/python"
  else
    set_up_system "$1"
    set_up_venv "$1"
  fi
}

# Files of tests are dealt out to processes as tests/parallel.py says.
run_tests() {
  cd "$HERE"
  exec "$VENV/bin/python" -m pytest -n auto "$@"
}

# --- as a service

require_root() {
  [ "$(id -u)" = 0 ] || fail "this needs root: sudo ./install.sh"
  [ -d /run/systemd/system ] || fail "this machine does not run systemd; './install.sh demo' works without"
}

install_service() {
  local option plan_only=no
  WITH_GATEWAY=no
  for option in "$@"; do
    case $option in
      --dry-run) plan_only=yes ;;
      --with-gateway) WITH_GATEWAY=yes ;;
      *) fail "unknown: $option" ;;
    esac
  done
  if [ $plan_only = yes ]; then print_plan; return; fi
  require_root
  # An upgrade keeps what there is.
  if systemctl -q is-enabled stablediffusion_gateway.socket 2>/dev/null; then WITH_GATEWAY=yes; fi
  umask 022
  LOG=/var/log/stablediffusiond-install.log
  START_SERVICES=yes set_up_system service
  install_accounts
  install_copy
  install_settings
  install_broker_access
  install_units
  if [ $WITH_GATEWAY = yes ]; then start_gateway; fi
  say "stablediffusiond runs; try: stablediffusion_client \"a red cat\" -o cat.png"
  say "who uses it joins the group stablediffusion: usermod -aG stablediffusion NAME, and logs in again"
}

print_plan() {
  cat <<PLAN
install or keep   Python 3.11, RabbitMQ (apt)
install           $PREFIX: a Python environment with torch and stablediffusiond
install           $CLIENT, and pages of the manual in $MANUAL
keep or install   $SETTINGS
keep or make      $CONFIG/broker-url and client-url, with random passwords; RabbitMQ users and the vhost $VHOST for them
make              the user stablediffusiond and the group stablediffusion ($SYSUSERS, $TMPFILES)
install           /etc/systemd/system: ${UNITS[*]}
start or restart  RabbitMQ (start only), stablediffusiond.target; running jobs are finished first
with-gateway      $WITH_GATEWAY: enable and start stablediffusion_gateway, HTTP on localhost:50008
PLAN
}

# The daemons' user, who may use a GPU, and the group of those who may use the daemons.
install_accounts() {
  install -D -m 644 "$HERE/systemd/sysusers.conf" $SYSUSERS
  install -D -m 644 "$HERE/systemd/tmpfiles.conf" $TMPFILES
  quietly systemd-sysusers $SYSUSERS
  if [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then quietly usermod -aG stablediffusion "$SUDO_USER"; fi
}

# From a copy of the sources, because setuptools builds where they are, and takes along what it finds there.
install_copy() {
  local sources
  sources=$(mktemp -d)
  cp -r "$HERE"/{stablediffusiond,pyproject.toml,README.md,LICENSE} "$sources"
  install_package "$PREFIX" "${sources}[engine,gateway]"
  rm -rf "$sources"
  # Where pip was told not to (PIP_COMPILE=0), each start would: the daemons may not write there.
  quietly "$PREFIX/bin/python" -m compileall -q "$PREFIX"/lib/python3*/site-packages/stablediffusiond
  ln -sf "$PREFIX/bin/stablediffusion_client" $CLIENT
  for_each_page install -D -m 644
}

# for_each_page COMMAND ...: runs it with each page of the manual, here and where it belongs
for_each_page() {
  local page
  for page in "$HERE"/docs/man/*; do "$@" "$page" "$MANUAL/man${page##*.}/${page##*/}"; done
}

install_settings() {
  if [ -e $SETTINGS ]; then
    say "keeping $SETTINGS"
    comm -13 <(keys_of $SETTINGS) <(keys_of "$HERE/settings.example.toml") | while read -r key; do
      say "new since then, and at its default: $key"
    done
  else
    install -d -m 755 $CONFIG
    sed -e 's|^url = |# &|' -e 's|^# \(url_file = \)|\1|' "$HERE/settings.example.toml" >$SETTINGS
  fi
}

# keys_of FILE: "[section] key" of each setting, commented out or not
keys_of() {
  awk '/^\[/ { section = $1 } match($0, /^(# )?[a-z_]+ = /) { sub(/^# /, ""); print section, $1 }' "$1" | sort -u
}

# Users of RabbitMQ for the daemons and for clients, each with the least it needs; never guest. Passwords are random; the
# broker is told their hashes, in a file: an argument could be read in the list of processes, and the rabbitmqctl of
# Debian 13 waits for ever for a password on its standard input.
# Clients publish to amq.default and tell .control; the names of our queues stand with these because RabbitMQ from 4.3 on
# counts a queue only for those who have some right to it. The right to write to a queue itself gives nothing that
# amq.default has not given: reading it takes another.
install_broker_access() {
  quietly systemctl start rabbitmq-server.service
  broker_users=()
  broker_user stablediffusiond broker-url root:root 600 \
    '^(stablediffusiond|results|amq\.gen)' '^(stablediffusiond|results|amq\.gen|amq\.default)' '.*'
  broker_user stablediffusion_client client-url root:stablediffusion 640 \
    '^results\.' '^(amq\.default|stablediffusiond(\.(control|high|low|crashed|dead|unroutable)|@.+)?)$' '^results'
  tell_broker
}

# broker_user NAME FILE OWNER MODE CONFIGURE WRITE READ
broker_user() {
  local file=$CONFIG/$2
  if [ -e "$file" ] && ! grep -qzx "amqp://$1:[^@]*@localhost:5672/$VHOST\s*" "$file"; then
    say "keeping $file, which names another broker, or another way to it"
    return
  fi
  if [ ! -e "$file" ]; then
    (umask 077 && printf 'amqp://%s:%s@localhost:5672/%s\n' \
      "$1" "$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')" $VHOST >"$file")
  fi
  chown "$3" "$file"
  chmod "$4" "$file"
  broker_users+=("$1" "$file" "$5" "$6" "$7")
}

# The vhost and `broker_users`, as RabbitMQ's definitions: made where they are missing, as they should be where not.
# https://www.rabbitmq.com/docs/passwords#computing-password-hash
tell_broker() {
  local definitions
  [ ${#broker_users[@]} -gt 0 ] || return 0
  definitions=$(mktemp /var/tmp/stablediffusiond.XXXXXX)
  chown root:rabbitmq "$definitions"
  chmod 640 "$definitions"
  python3 -c '
import base64, hashlib, json, os, sys
vhost, *rest = sys.argv[1:]
users, permissions = [], []
for name, file, configure, write, read in zip(*[iter(rest)] * 5):
    with open(file, encoding="utf-8") as url:
        password = url.read().split("@")[0].rpartition(":")[2]
    salt = os.urandom(4)
    salted = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    users.append({
        "name": name, "password_hash": salted, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": [],
    })
    permissions.append({"user": name, "vhost": vhost, "configure": configure, "write": write, "read": read})
json.dump({"vhosts": [{"name": vhost}], "users": users, "permissions": permissions}, sys.stdout)
' "$VHOST" "${broker_users[@]}" >"$definitions"
  quietly rabbitmqctl -q import_definitions "$definitions"
  rm -f "$definitions"
}

# GPUs whose device nodes belong to no group that a unit can name: WSL2's, Jetson's. A node that is not there is an error in
# the log at each start, so the units get those of this machine.
install_devices() {
  local node unit allowed=""
  for node in /dev/dxg /dev/nvmap /dev/nvhost* /dev/nvgpu/*/* /dev/nvsciipc /dev/host1x-fence; do
    if [ -c "$node" ]; then allowed+="DeviceAllow=$node rw"$'\n'; fi
  done
  for unit in stablediffusiond.service stablediffusiond@.service; do
    rm -f "/etc/systemd/system/$unit.d/$DEVICES"
    if [ -n "$allowed" ]; then
      install -d -m 755 "/etc/systemd/system/$unit.d"
      printf '[Service]\n%s' "$allowed" >"/etc/systemd/system/$unit.d/$DEVICES"
    fi
  done
}

install_units() {
  say "starting the services"
  SOCKET_BEFORE=$(cat /etc/systemd/system/stablediffusion_responsed.socket 2>/dev/null || true)
  install -m 644 "${UNITS[@]/#/$HERE/systemd/}" /etc/systemd/system/
  install_devices
  quietly systemd-tmpfiles --create $TMPFILES
  quietly systemctl daemon-reload
  find_request_daemons
  quietly systemctl enable stablediffusiond.target "${request_daemons[@]}" stablediffusion_responsed.socket \
    stablediffusion_responsed.service
  open_socket
  quietly systemctl restart "${request_daemons[@]}" stablediffusion_responsed.service
  quietly systemctl start stablediffusiond.target
}

start_gateway() {
  quietly systemctl enable stablediffusion_gateway.socket stablediffusion_gateway.service
  quietly systemctl start stablediffusion_gateway.socket
  quietly systemctl restart stablediffusion_gateway.service
  say "HTTP: http://localhost:50008 has a page, OpenAI's and A1111's API, and /openapi.json"
}

# One request daemon, unless the operator has chosen one for each of several GPUs: these and the one exclude each other.
find_request_daemons() {
  local each
  request_daemons=()
  for each in "$WANTED_BY_TARGET"/stablediffusiond@*.service; do
    if [ -e "$each" ]; then request_daemons+=("${each##*/}"); fi
  done
  [ ${#request_daemons[@]} -gt 0 ] || request_daemons=(stablediffusiond.service)
}

# systemd opens what a socket unit names only while its service is down. A socket that is open already is left alone, so
# that an upgrade refuses no client, unless the unit names others than it did.
open_socket() {
  local socket=stablediffusion_responsed.socket
  if [ -n "$SOCKET_BEFORE" ] && [ "$SOCKET_BEFORE" != "$(cat /etc/systemd/system/$socket)" ]; then
    quietly systemctl stop stablediffusion_responsed.service $socket
  fi
  quietly systemctl start $socket
}

uninstall() {
  [ "${1-}" = --purge ] || [ $# = 0 ] || fail "unknown: $1"
  require_root
  say "removing the services"
  find_request_daemons
  systemctl disable --now "${request_daemons[@]}" "${UNITS[@]}" >/dev/null 2>&1 || true
  systemctl stop 'stablediffusiond@*.service' >/dev/null 2>&1 || true
  rm -f "${UNITS[@]/#//etc/systemd/system/}" /etc/systemd/system/stablediffusiond{,@}.service.d/$DEVICES
  rmdir /etc/systemd/system/stablediffusiond{,@}.service.d 2>/dev/null || true
  rm -f $CLIENT $SYSUSERS $TMPFILES
  rm -rf /run/stablediffusiond
  for_each_page remove_page
  rm -rf $PREFIX /var/cache/stablediffusiond
  systemctl daemon-reload
  if [ "${1-}" = --purge ]; then
    purge
  else
    say "$CONFIG, /var/lib/stablediffusiond, RabbitMQ and its queues stay; 'uninstall --purge' removes all but RabbitMQ"
  fi
}

remove_page() { rm -f "$2"; }

purge() {
  local user
  say "removing settings, passwords and queues"
  rm -rf $CONFIG /var/lib/stablediffusiond /var/lib/{,private/}stablediffusion_gateway /var/log/stablediffusiond-install.log
  # What `systemctl edit` and `systemctl set-property` have made.
  rm -rf /etc/systemd/system{,.control}/stablediffusion{d,d@,_responsed,_gateway}.service.d
  rm -rf /etc/systemd/system{,.control}/stablediffusion_{responsed,gateway}.socket.d
  systemctl daemon-reload
  if command -v rabbitmqctl >/dev/null && systemctl -q is-active rabbitmq-server.service; then
    rabbitmqctl -q delete_vhost $VHOST || true
    for user in stablediffusiond stablediffusion_client; do rabbitmqctl -q delete_user $user || true; done
  fi
  if id stablediffusiond >/dev/null 2>&1; then userdel stablediffusiond; fi
  if getent group stablediffusion >/dev/null; then groupdel stablediffusion; fi
}

case ${1-} in
  demo) shift; set_up demo; exec "$VENV/bin/python" "$HERE/tools/demo.py" "$@" ;;
  test) shift; set_up test; run_tests "$@" ;;
  set-up) set_up "${2:-demo}" ;;
  uninstall) shift; uninstall "$@" ;;
  '' | --dry-run | --with-gateway) install_service "$@" ;;
  -h | --help) usage ;;
  *) usage >&2; fail "unknown: $1" ;;
esac
