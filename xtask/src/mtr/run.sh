#!/bin/bash
# run.sh SYSTEM PROGRAM ARGUMENT...: runs a program in an unpacked Debian system, in a namespace of its own.
set -e
system=$1
shift
mount --rbind /proc "$system/proc"
mount --rbind /dev "$system/dev"
exec chroot "$system" /usr/bin/env -i PATH=/usr/bin:/usr/sbin HOME=/root LC_ALL=C MYSQL_ML_INSTALL="$MYSQL_ML_INSTALL" "$@"
