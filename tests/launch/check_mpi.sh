#!/bin/sh
# SPDX-License-Identifier: MIT
# Real launches under the MPI launchers of the distribution: ranks without MPI by the launcher's environment, and ranks
# with MPI that hand its all-gather to Tutti.
. "$(dirname "$0")/../sh.sh"
lib=$top/${B:-build}/lib

build() { "$1" -std=gnu11 -I"$top/include" -o "$2" "$top/tests/launch/with_mpi.c" "$lib/libtutti.a" -lsodium -lhwloc -ljansson -ldl -lpthread -lm; }
openmpi="mpirun.openmpi --allow-run-as-root --oversubscribe --mca btl self,vader,tcp --mca btl_vader_single_copy_mechanism none"
plain() { timeout 180 "$@" "$TESTED_BIN/tutti-perf" allreduce -b 8 -e 64K -f 16 -n 5; }
with() { timeout 180 "$@"; }

if command -v mpirun.openmpi >/dev/null && command -v mpicc.openmpi >/dev/null; then
	run openmpi_builds build mpicc.openmpi "$work/ompi"
	for n in 1 2 4; do
		run "openmpi_environment_$n" plain $openmpi -n $n
		run "openmpi_allgather_$n" with $openmpi -n $n "$work/ompi" oob
		run "openmpi_both_$n" with $openmpi -n $n "$work/ompi" env
	done
else
	skip openmpi "mpirun.openmpi is not installed"
fi
if command -v mpiexec.mpich >/dev/null && command -v mpicc.mpich >/dev/null; then
	run mpich_builds build mpicc.mpich "$work/mpich"
	for n in 1 2 4; do
		run "mpich_environment_$n" plain mpiexec.mpich -n $n
		run "mpich_allgather_$n" with mpiexec.mpich -n $n "$work/mpich" oob
		run "mpich_both_$n" with mpiexec.mpich -n $n "$work/mpich" env
	done
else
	skip mpich "mpiexec.mpich is not installed"
fi
report
