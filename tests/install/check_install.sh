#!/bin/sh
# SPDX-License-Identifier: MIT
# What a user of the installed library sees: a C and a C++ program built with pkg-config, the header alone, the symbols.
. "$(dirname "$0")/../sh.sh"
here=$top/tests/install
prefix=$work/usr

installs() { make -C "$top" --no-print-directory install PREFIX="$prefix"; }
flags() { PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config "$@" tutti; }
c_program() {
	gcc -std=c11 -Wall -Wextra -Wpedantic -Werror -o "$work/c" "$here/consumer.c" $(flags --cflags --libs) &&
		LD_LIBRARY_PATH=$prefix/lib "$prefix/bin/tutti-run" -n 2 "$work/c"
}
cxx_program() {
	g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -o "$work/cxx" "$here/consumer.cc" $(flags --cflags --libs) &&
		LD_LIBRARY_PATH=$prefix/lib "$prefix/bin/tutti-run" -n 2 "$work/cxx"
}
static_program() {
	gcc -std=c11 -o "$work/s" "$here/consumer.c" $(flags --cflags) "$prefix/lib/libtutti.a" \
		$(flags --static --libs-only-l | sed 's/-ltutti//') && "$prefix/bin/tutti-run" -n 2 "$work/s"
}
header_alone() {
	for std in c11 c17; do gcc -std=$std -Wall -Wextra -Wpedantic -Werror -fsyntax-only -xc "$top/include/tutti.h" || return 1; done
	for std in c++17 c++20; do g++ -std=$std -Wall -Wextra -Wpedantic -Werror -fsyntax-only -xc++ "$top/include/tutti.h" || return 1; done
}
only_tutti_symbols() {
	nm -D --defined-only "$prefix/lib/libtutti.so.0" | awk '$2 != "A" && $3 !~ /^tutti_/ {print; bad = 1} END {exit bad}' &&
		nm -D --defined-only "$prefix/lib/libtutti.so.0" | grep -q 'tutti_allreduce@@TUTTI_0'
}
# An engine that links the library gets libsodium and what belongs to libc (libpthread and libdl of an older one), nothing else.
needs_little() {
	linked=$(readelf -dW "$prefix/lib/libtutti.so.0" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
		grep -vE '^(libsodium|libc|libpthread|libdl|ld-linux[-a-z0-9_]*)\.so\.')
	[ -z "$linked" ] || { echo "libtutti.so.0 needs $linked"; return 1; }
	private=$(flags --static --libs-only-l | tr ' ' '\n' | grep -vE '^(-ltutti|-lsodium|-lm|-lpthread|-ldl)?$')
	[ -z "$private" ] || { echo "tutti.pc names $private"; return 1; }
}
every_call_is_there() {
	grep -o 'tutti_[a-z_]*(' "$top/include/tutti.h" | tr -d '(' | sort -u >"$work/declared"
	nm -D --defined-only "$prefix/lib/libtutti.so.0" | awk '{print $3}' | sed 's/@.*//' | sort -u >"$work/there"
	missing=$(comm -23 "$work/declared" "$work/there")
	[ -z "$missing" ] || { echo "declared, not exported: $missing"; return 1; }
}
hardened() {
	for f in "$prefix/lib/libtutti.so.0" "$prefix"/bin/tutti-*; do
		readelf -hW "$f" | grep -q 'Type:.*DYN' && readelf -lW "$f" | grep -q GNU_RELRO &&
			readelf -dW "$f" | grep -q 'FLAGS.*NOW' && nm -D "$f" | grep -q __stack_chk_fail &&
			nm -D "$f" | grep -q '__[a-z]*printf_chk' || { echo "$f is not hardened"; return 1; }
	done
}
uninstalls() {
	make -C "$top" --no-print-directory uninstall PREFIX="$prefix" && left=$(find "$prefix" -type f -o -type l) &&
		[ -z "$left" ] || { echo "left behind: $left"; return 1; }
}
pages() { for p in tutti-run tutti-perf tutti-info; do man -l "$prefix/share/man/man1/$p.1" >/dev/null 2>&1 || grep -q '^.SH OPTIONS' "$prefix/share/man/man1/$p.1" || return 1; done; }

run installs installs
run header_alone header_alone
run c_program c_program
run cxx_program cxx_program
run static_program static_program
run only_tutti_symbols only_tutti_symbols
run needs_little needs_little
run every_call_is_there every_call_is_there
run pages pages
run hardened hardened
run uninstalls uninstalls
report
