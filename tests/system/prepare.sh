#!/usr/bin/env bash
# prepare.sh ROOT USER NAME_SERVER ID <SETTINGS: what a machine gets before it boots. Of this machine it has the programs,
# and nothing that they do here: no services, no broker's queues, no installation of ours, no log.
set -euo pipefail
shopt -s nullglob
umask 022
root=$1 user=$2 name_server=$3 id=$4
cd "$root"
if [ "$PWD" = / ] || [ "$(findmnt -no FSTYPE --mountpoint "$PWD")" != overlay ]; then
  echo "$PWD is not the root of a machine" >&2
  exit 1
fi

rm -rf etc/systemd/system/*.{wants,requires,upholds} etc/rc?.d/S* etc/{fstab,crypttab}
rm -rf etc/rabbitmq/* var/lib/rabbitmq/{.[!.],}* var/log/rabbitmq/* var/log/journal
rm -rf etc/systemd/system{,.control}/stablediffusion* etc/stablediffusiond opt/stablediffusiond
rm -rf var/{lib,cache}/stablediffusiond usr/local/bin/stablediffusion*
# An empty id would be that of a first boot, at which every service is enabled.
echo "$id" >etc/machine-id
rm -f etc/resolv.conf
echo "nameserver $name_server" >etc/resolv.conf
echo machine >etc/hostname
printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 machine' '::1 localhost ip6-localhost' >etc/hosts

chroot . useradd --create-home --groups systemd-journal "$user"
cat >etc/package-settings
kept=$(sed 's/=.*//' etc/package-settings | tr '\n' ' ')
printf 'Defaults env_keep += "TMPDIR %s"\n%s ALL=(ALL) NOPASSWD: ALL\n' "$kept" "$user" >etc/sudoers.d/tests
chmod 440 etc/sudoers.d/tests
