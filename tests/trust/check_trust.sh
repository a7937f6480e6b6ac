#!/bin/sh
# SPDX-License-Identifier: MIT
# Attacks on jobs of two ranks, by who makes them: somebody on the path (a relay between rank 1 and rank 0), another user of the
# host, and whoever gets to see output, logs or a core. Each line of docs/security.md names one of these tests.
. "$(dirname "$0")/../sh.sh"
python=python3
[ -x /usr/bin/python3 ] && python=/usr/bin/python3 # another user can run it
attack="$python $(cd "$(dirname "$0")" && pwd)/attack.py"
secret=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
path_tests="a_relay_that_forwards a_relay_that_rewrites_contacts a_relay_that_rewrites_neighbours a_relay_that_repeats
	a_relay_that_cuts who_listens_learns_nothing"
user_tests="another_user_sits_at_the_rendezvous another_user_joins another_user_knocks ranks_of_two_users"
secret_tests="the_secret_is_not_shown the_secret_is_not_logged a_short_secret_is_stretched
	an_open_secret_file_is_refused"

free_port() { $python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# as_rank RANK PORT PROGRAM...: on this host, without a launcher
as_rank() {
	r=$1 p=$2
	shift 2
	TUTTI_RANK=$r TUTTI_SIZE=2 TUTTI_ROOT=127.0.0.1:$p TUTTI_START_TIMEOUT=${limit:-30} timeout 120 "$@"
}
perf() { as_rank "$@" "$TESTED_BIN/tutti-perf" allreduce -b 8 -e 64K -f 64 -n 2 -w 1; }

await() { # await FILE TEXT: somebody has written it
	i=0
	until grep -q "$2" "$1" 2>/dev/null; do
		i=$((i + 1))
		[ $i -lt 600 ] || return 1
		sleep 0.1
	done
}

# ---- somebody on the path ----

# relayed MODE SIDE: both ranks' statuses in $rank0 and $rank1, what they say in files of these names
relayed() {
	root=$(free_port) there=$(free_port)
	export TUTTI_SECRET=$secret
	$attack relay "$there" "$root" "$1" "$2" "$work/capture" >"$work/ready" 2>&1 &
	relay=$!
	await "$work/ready" ready || return 1
	perf 0 "$root" >"$work/rank0" 2>&1 &
	zero=$!
	perf 1 "$there" >"$work/rank1" 2>&1
	rank1=$?
	wait $zero
	rank0=$?
	kill $relay
	wait $relay 2>/dev/null
	unset TUTTI_SECRET
	cat "$work/rank0" "$work/rank1"
}
a_relay_that_forwards() { relayed forward up && [ $rank0 = 0 ] && [ $rank1 = 0 ]; }
found() { [ $rank0 != 0 ] && [ $rank1 != 0 ] && grep -q "something on the path changes, repeats or adds bytes" "$work/rank$1"; }
a_relay_that_rewrites_contacts() { relayed rewrite up && found 0; }
a_relay_that_rewrites_neighbours() { relayed rewrite down && found 1; }
a_relay_that_repeats() { relayed repeat up && found 0; }
a_relay_that_cuts() { limit=8; relayed cut up && [ $rank0 != 0 ] && [ $rank1 != 0 ] && grep -q "rank" "$work/rank0"; }
who_listens_learns_nothing() {
	unset limit
	# long enough not to stand in the ciphertext by chance, as a host's short name may
	export TUTTI_HOST=a-host-that-nobody-shall-know
	relayed forward up
	unset TUTTI_HOST
	[ -s "$work/capture" ] && ! grep -aqE "TUTTI_|a-host-that|${secret%????????????????????????}" "$work/capture"
}

# ---- another user of the host ----

nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

another_user_sits_at_the_rendezvous() {
	port=$(free_port)
	nobody $attack squat "tutti-root-0-$port" >"$work/ready" 2>&1 &
	squatter=$!
	await "$work/ready" ready || return 1
	limit=10 perf 0 "$port" >"$work/rank0" 2>&1
	rank0=$?
	limit=10 perf 1 "$port" >"$work/rank1" 2>&1
	rank1=$?
	kill $squatter
	wait $squatter 2>/dev/null
	cat "$work/rank0" "$work/rank1"
	[ $rank0 != 0 ] && [ $rank1 != 0 ] && grep -q "another user's process" "$work/rank0" && grep -q "another user" "$work/rank1"
}
another_user_joins() {
	port=$(free_port)
	perf 0 "$port" >"$work/rank0" 2>&1 &
	zero=$!
	nobody env TUTTI_RANK=1 TUTTI_SIZE=2 TUTTI_ROOT=127.0.0.1:$port TUTTI_START_TIMEOUT=3 timeout 60 \
		"$TESTED_BIN/tutti-perf" barrier -n 2 >"$work/intruder" 2>&1
	intruder=$?
	perf 1 "$port" >"$work/rank1" 2>&1
	rank1=$?
	wait $zero
	rank0=$?
	cat "$work/intruder" "$work/rank0" "$work/rank1"
	[ $intruder != 0 ] && [ $rank0 = 0 ] && [ $rank1 = 0 ]
}
another_user_knocks() {
	port=$(free_port)
	perf 0 "$port" >"$work/rank0" 2>&1 &
	zero=$!
	nobody $attack knock "tutti-root-0-$port" >"$work/knock" 2>&1
	knock=$?
	perf 1 "$port" >"$work/rank1" 2>&1
	rank1=$?
	wait $zero
	rank0=$?
	cat "$work/knock" "$work/rank0" "$work/rank1"
	[ $knock = 0 ] && [ $rank0 = 0 ] && [ $rank1 = 0 ]
}
# With the right secret they are one job; they share no memory, and speak over TCP.
ranks_of_two_users() {
	port=$(free_port)
	export TUTTI_SECRET=$secret
	perf 0 "$port" >"$work/rank0" 2>&1 &
	zero=$!
	nobody env TUTTI_RANK=1 TUTTI_SIZE=2 TUTTI_ROOT=127.0.0.1:$port TUTTI_START_TIMEOUT=30 timeout 120 \
		"$TESTED_BIN/tutti-perf" allreduce -b 8 -e 64K -f 64 -n 2 -w 1 >"$work/rank1" 2>&1
	rank1=$?
	wait $zero
	rank0=$?
	unset TUTTI_SECRET
	cat "$work/rank0" "$work/rank1"
	[ $rank0 = 0 ] && [ $rank1 = 0 ]
}

# ---- the secret ----

the_secret_is_not_shown() {
	TUTTI_SECRET=hunter2hunter2 "$TESTED_BIN/tutti-info" --params >"$work/params" || return 1
	grep TUTTI_SECRET "$work/params"
	grep -q "TUTTI_SECRET=(set; not shown)" "$work/params" && ! grep -q hunter2 "$work/params"
}
the_secret_is_not_logged() {
	port=$(free_port)
	export TUTTI_SECRET=hunter2hunter2 TUTTI_LOG=debug
	perf 0 "$port" >"$work/rank0" 2>&1 &
	zero=$!
	TUTTI_SECRET=hunter3hunter3 perf 1 "$port" >"$work/rank1" 2>&1 # a wrong one is not shown either
	perf 1 "$port" >"$work/rank1b" 2>&1
	rank1=$?
	wait $zero
	rank0=$?
	unset TUTTI_SECRET TUTTI_LOG
	cat "$work/rank0" "$work/rank1" "$work/rank1b"
	[ $rank0 = 0 ] && [ $rank1 = 0 ] && ! grep -q hunter "$work/rank0" "$work/rank1" "$work/rank1b"
}
a_short_secret_is_stretched() {
	limit=10
	export TUTTI_SECRET=x
	port=$(free_port)
	perf 0 "$port" >"$work/rank0" 2>&1 &
	zero=$!
	perf 1 "$port" >"$work/rank1" 2>&1
	rank1=$?
	wait $zero
	rank0=$?
	unset TUTTI_SECRET limit
	cat "$work/rank0" "$work/rank1"
	[ $rank0 = 0 ] && [ $rank1 = 0 ]
}
an_open_secret_file_is_refused() {
	echo $secret >"$work/secret"
	chmod 644 "$work/secret"
	TUTTI_SECRET_FILE="$work/secret" perf 1 "$(free_port)" >"$work/rank1" 2>&1 && return 1
	cat "$work/rank1"
	grep -q "chmod 600" "$work/rank1"
}

if command -v $python >/dev/null; then
	for t in $path_tests; do run "$t" "$t"; done
	for t in the_secret_is_not_shown the_secret_is_not_logged a_short_secret_is_stretched an_open_secret_file_is_refused; do run "$t" "$t"; done
else
	for t in $path_tests $secret_tests; do skip "$t" "python3 is not installed"; done
fi
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && command -v $python >/dev/null && nobody test -x "$TESTED_BIN/tutti-perf" && nobody $python -c ''; then
	for t in $user_tests; do run "$t" "$t"; done
else
	for t in $user_tests; do skip "$t" "needs root, setpriv, python3 and programs that another user can run"; done
fi
report
