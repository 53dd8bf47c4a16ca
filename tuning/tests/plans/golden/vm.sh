#!/bin/sh
# Made by florin tune plan --shell. `florin tune apply` does the same, reads back, and can undo it.
set -u
if systemd-detect-virt --quiet --container 2>/dev/null; then
    echo 'this is a container, and much of /proc and /sys is its host'\''s: run this on the host' >&2
    exit 1
fi
failed=0
put() { printf '%s\n' "$2" 2>/dev/null >"$1" || { echo "$1: not written" >&2; failed=1; }; }

# timer-migration
put /proc/sys/kernel/timer_migration 0

# nmi-watchdog
put /proc/sys/kernel/nmi_watchdog 0

# workqueue
put /sys/devices/virtual/workqueue/cpumask 87

# irq-affinity
put /proc/irq/30/smp_affinity_list 3
put /proc/irq/31/smp_affinity_list 4
put /proc/irq/32/smp_affinity_list 5
put /proc/irq/33/smp_affinity_list 6
put /proc/irq/29/smp_affinity_list 0-2,7
put /proc/irq/default_smp_affinity 87

# packet-steering
put /sys/class/net/eth0/queues/tx-0/xps_cpus 8
put /sys/class/net/eth0/queues/tx-1/xps_cpus 10
put /sys/class/net/eth0/queues/tx-2/xps_cpus 20
put /sys/class/net/eth0/queues/tx-3/xps_cpus 40

# backlog
put /proc/sys/net/ipv4/tcp_max_syn_backlog 4096

# tcp
put /proc/sys/net/ipv4/tcp_slow_start_after_idle 0

exit $failed
