#!/usr/bin/env bash
# Starts DIR/asiduo.service under a systemd of its own: process 1 of fresh namespaces, with this machine's files below a
# file system in memory, where DIR/asiduo is /usr/local/bin/asiduo and DIR/asiduo.yaml is /etc/asiduo/asiduo.yaml. The
# network is this machine's. What the service writes is in DIR/log. SIGTERM stops it as "systemctl poweroff" would.
#
#   .ci/systemd.sh DIR        needs root; exits 0 when the service has been stopped
set -euo pipefail
dir=$(cd "$1" && pwd)

inside() {
	mount --make-rprivate /
	local room=$dir/room root=$dir/room/root d
	mkdir -p "$room"
	mount -t tmpfs tmpfs "$room"
	mkdir "$room"/{upper,work,root}
	mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	for d in run tmp dev; do mount -t tmpfs tmpfs "$root/$d"; done
	for d in null zero full random urandom tty; do
		touch "$root/dev/$d"
		mount --bind "/dev/$d" "$root/dev/$d"
	done
	mkdir -p "$root"/dev/{shm,pts,mqueue,hugepages} "$root/old" "$root/out" "$root/etc/asiduo" "$root/etc/systemd/system/asiduo.service.d"
	mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666
	ln -s pts/ptmx "$root/dev/ptmx"
	ln -s /proc/self/fd "$root/dev/fd"
	mount --bind "$dir" "$root/out"
	install -m 0755 "$dir/asiduo" "$root/usr/local/bin/asiduo"
	install -m 0644 "$dir/asiduo.yaml" "$root/etc/asiduo/asiduo.yaml"
	cp "$dir/asiduo.service" "$root/etc/systemd/system/"
	# Nothing else of this machine is to be started, and there is no journal.
	ln -sf /dev/null "$root/etc/systemd/system/network-online.target"
	cat >"$root/etc/systemd/system/asiduo.service.d/test.conf" <<-END
		[Unit]
		DefaultDependencies=no
		[Service]
		StandardOutput=append:/out/log
		StandardError=append:/out/log
	END
	cd "$root"
	pivot_root . old
	umount -l /old
	exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=asiduo.service --log-target=null --show-status=0
}

if [ "${2:-}" = inside ]; then inside; fi

groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
group=$groups/asiduo-test-$$
mkdir "$group"
child=
clean() {
	if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null || true; fi
	for _ in {1..50}; do
		if find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; then break; fi
		sleep 0.1
	done
}
trap clean EXIT
(
	echo "$BASHPID" >"$group/cgroup.procs"
	# When this script is killed, all of it ends: systemd is process 1, and takes the others with it.
	exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --uts --ipc --cgroup bash "$0" "$dir" inside
) &
child=$!
trap 'kill -RTMIN+3 "$(cat "/proc/$child/task/$child/children" | tr -d " ")"' TERM
code=0
wait "$child" || code=$?
if [ "$code" -gt 128 ]; then # the trap has ended the wait, not the child
	code=0
	wait "$child" || code=$?
fi
child=
if [ "$code" = 130 ]; then code=0; fi # a process 1 that has halted looks as if SIGINT had ended it: reboot(2)
exit "$code"
