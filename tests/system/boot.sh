#!/usr/bin/env bash
# boot.sh NAME ROOT NETWORK: boot the files under ROOT with their own systemd, in a network namespace that is there already.
# Ends with it.
set -euo pipefail
name=$1 root=$2 network=$3
options=(
  --quiet --boot --register=no --resolv-conf=off
  --machine="$name" --directory="$root" --network-namespace-path="$network"
  # So that the units' IPAddressDeny= and DeviceAllow= are in force: systemd makes BPF programs of them.
  --system-call-filter=bpf --capability=CAP_BPF --capability=CAP_NET_ADMIN --capability=CAP_PERFMON
)
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1

# A systemd here gives each machine a cgroup of its own. Where there is none two machines would share one, and each take the
# other's services for its own.
if [ -d /run/systemd/system ]; then
  exec systemd-nspawn "${options[@]}"
fi
cgroups=/sys/fs/cgroup
if [ -d $cgroups/unified ]; then cgroups=$cgroups/unified; fi
mkdir "$cgroups/$name"
code=0
(echo "$BASHPID" >"$cgroups/$name/cgroup.procs" && exec systemd-nspawn --keep-unit "${options[@]}") || code=$?
# The container's systemd has its groups in a second tree, too, where there is one.
find /sys/fs/cgroup/{,unified/,systemd/}"$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
exit "$code"
