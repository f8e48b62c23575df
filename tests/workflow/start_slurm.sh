#!/usr/bin/env bash
# A one-node Slurm on 127.0.0.1 for tests: no systemd, no accounting database, no cgroups, no GPU, no root.
#   once, as root: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
#   start_slurm.sh start FOLDER    everything lies in FOLDER; prints `export` lines; exit 77: not installed
#   start_slurm.sh stop FOLDER     ends all jobs and daemons
# The node may be larger than the machine: SLURM_CI_CPUS=32, SLURM_CI_MEM=256000 (MB), SLURM_CI_GPUS=4. Slurm 22.05 or newer.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
user=$(id -un)
host=$(uname -n | cut -d. -f1)
gpus=${SLURM_CI_GPUS:-4}

is_running() { # is_running PID NAME: that program, and no zombie that a container's first process left
  [ "$(sed -n 's/^Name:\t//p' "/proc/$1/status" 2>/dev/null)" = "$2" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

stop_daemon() { # only the pid that the daemon recorded, and only while it is that daemon
  local pid
  pid=$(cat "$folder/$1.pid" 2>/dev/null) && is_running "$pid" "$1" || return 0
  kill "$pid" || true
  for _ in $(seq 50); do
    is_running "$pid" "$1" || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

stop_all() {
  if [ -e "$folder/slurmctld.pid" ]; then # the daemon of a job that is not over would outlive slurmd
    timeout 5 scancel --user "$user" >/dev/null 2>&1 || true
    for _ in $(seq 40); do
      [ -n "$(timeout 3 squeue --noheader 2>/dev/null)" ] || break
      sleep 0.25
    done
  fi
  stop_daemon slurmd
  stop_daemon slurmctld
  stop_daemon munged
}

die() {
  echo "start_slurm: $*" >&2
  tail -n 15 "$folder"/*.log >&2 || true
  stop_all
  exit 1
}

daemon() { "$@" </dev/null >>"$folder/daemons.log" 2>&1 || die "$1 failed"; }

configure() {
  mkdir -p "$folder"/{state,spool,munge,dev,bin}
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
  local controller node
  read -r controller node < <(python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[each.getsockname()[1] for each in held])')
  # By process group: a Snakemake whose batch shell was cancelled first is a child of nobody, and would be lost by parentage.
  # slurmd drops a GPU whose file is no device; a link to the null device passes. Without slurmdbd there is no
  # AccountingStorageTRES=gres/gpu: jobcomp.txt is silent on GPUs, `scontrol show job` is not.
  cat >"$folder/slurm.conf" <<CONF
ClusterName=ci
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge/s
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
MinJobAge=3600
KillWait=5
GresTypes=gpu
DefMemPerCPU=100
NodeName=localhost NodeHostname=$host NodeAddr=127.0.0.1 CPUs=${SLURM_CI_CPUS:-32} RealMemory=${SLURM_CI_MEM:-256000} Gres=gpu:$gpus
PartitionName=cpu Nodes=localhost Default=YES DefaultTime=10 MaxTime=INFINITE
PartitionName=gpu Nodes=localhost DefaultTime=10 MaxTime=INFINITE
CONF
  for number in $(seq 0 $((gpus - 1))); do ln -sfn /dev/null "$folder/dev/gpu$number"; done
  echo "NodeName=localhost Name=gpu AutoDetect=off File=$folder/dev/gpu[0-$((gpus - 1))]" >"$folder/gres.conf"
  # Slurm 23 and newer want a cgroup file system unless told not to; 22.05 refuses this very line
  [ "$(slurmd -V | grep -oE '[0-9]+' | head -1)" -lt 23 ] || echo CgroupPlugin=disabled >"$folder/cgroup.conf"
  # Snakemake's job step removes SLURM_CONF before its inner srun; a cluster with its configuration in /etc does not notice
  printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$folder/bin/srun"
  chmod +x "$folder/bin/srun"
}

start() {
  for program in munged slurmctld slurmd sbatch; do
    command -v $program >/dev/null || { echo "start_slurm: $program is not installed" >&2 && exit 77; }
  done
  configure
  # --force: a socket below a private folder, such as pytest's, is refused otherwise
  daemon munged --force --key-file="$folder/munge.key" --socket="$folder/munge/s" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  daemon slurmctld -f "$SLURM_CONF"
  daemon slurmd -f "$SLURM_CONF"
  for _ in $(seq 60); do
    [ "$(timeout 3 sinfo --noheader --format %t --partition cpu 2>/dev/null)" = idle ] && break
    sleep 0.25
  done
  timeout 30 srun --partition gpu --gpus 1 true >>"$folder/daemons.log" 2>&1 || die "no job could run: $(timeout 3 sinfo -R 2>&1)"
  echo "export SLURM_CONF=$SLURM_CONF PATH=$folder/bin:\$PATH"
}

[ $# = 2 ] || { echo "usage: start_slurm.sh start|stop FOLDER" >&2 && exit 2; }
folder=$(realpath -m "$2")
export SLURM_CONF="$folder/slurm.conf"
case $1 in
  start) start ;;
  stop) stop_all ;;
  *) echo "start_slurm: no command $1" >&2 && exit 2 ;;
esac
