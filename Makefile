# SPDX-License-Identifier: MIT
# Tutti: one Makefile, non-recursive. `make` builds, `make demo` shows, `make check` tests; each does its own set-up.
#   V=1 shows commands   SAN=address|undefined|thread   B=build-dir   CROSS=aarch64-linux-gnu-
#   OS=imaginary-darwin builds the macOS code on Linux, over tests/darwin
V       ?= 0
B       ?= build$(if $(CROSS),-$(firstword $(subst -, ,$(CROSS))))$(if $(filter imaginary-%,$(OS)),-$(OS))$(if $(SAN),-$(SAN))
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
CC      := $(CROSS)$(if $(filter default undefined,$(origin CC)),gcc,$(CC))
CXX     := $(CROSS)$(if $(filter default undefined,$(origin CXX)),g++,$(CXX))
AR      := $(CROSS)$(if $(filter default undefined,$(origin AR)),ar,$(AR))
LD      := $(CROSS)ld
OBJCOPY ?= $(CROSS)objcopy
VERSION := 0.1.0
Q       := $(if $(filter 1,$(V)),,@)
say      = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2);)

PKG_CONFIG ?= pkg-config
# What the library needs, and with it everything; programs that write JSON, and those that look at machines, need more.
LIBS    := -lsodium -ldl -lpthread -lm
JSON    := -ljansson
HWLOC   := -lhwloc
WARN    := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wmissing-prototypes -Wstrict-prototypes -Wvla -Werror
OPT     ?= -O2
CFLAGS  += -std=c11 -D_GNU_SOURCE $(OPT) -g -fPIC -fvisibility=hidden -fno-math-errno -ffp-contract=off $(WARN) -Iinclude
comma   := ,
# The system that this compiler compiles for.
TARGET  := $(shell $(CC) -dumpmachine)
ARCH    := $(subst arm64,aarch64,$(firstword $(subst -, ,$(TARGET))))
OS      := $(if $(findstring linux,$(TARGET)),linux,$(if $(findstring darwin,$(TARGET))$(findstring macos,$(TARGET)),darwin))
# As Debian builds; the sanitizers bring checks of their own.
ifeq ($(SAN),)
CFLAGS  += -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wformat -Werror=format-security
LDFLAGS += $(if $(filter darwin,$(OS)),,-Wl,-z,relro -Wl,-z,now)
endif
ifneq ($(SAN),)
SANFLAGS := -fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)
CFLAGS  += $(SANFLAGS)
LDFLAGS += $(SANFLAGS)
endif

# A transport over an optional library: without the library's header its folder is absent.c alone, which says so.
has      = $(shell printf '\#include <%s>\n' $(1) | $(CC) -E -x c - >/dev/null 2>&1 && echo yes)
leave_out = $(if $(2),transports/$(1)/absent.c,$(filter-out transports/$(1)/absent.c,$(wildcard transports/$(1)/*.c)))
# Of src/os/, what is for that system.
OTHEROS := $(filter-out src/os/$(OS:imaginary-%=%)%,$(wildcard src/os/*.c))
# The imaginary Darwin is linked into the library, and the compiler includes its header before every file but its own.
IMAGINED := $(if $(filter imaginary-%,$(OS)),$(filter-out tests/darwin/test_% tests/darwin/skips.c,$(wildcard tests/darwin/*.c)))
AS_A_MAC := $(if $(IMAGINED),-include tests/darwin/darwin.h -isystem tests/darwin/include)
LEFTOUT := $(call leave_out,libfabric,$(if $(filter darwin,$(OS)),,$(call has,rdma/fabric.h)))
# verbs and libfabric know Linux alone so far.
LEFTOUT += $(call leave_out,verbs,$(if $(filter darwin,$(OS)),,yes))
SRC     := $(filter-out $(LEFTOUT) $(OTHEROS),$(shell find src transports -name '*.c' | sort)) $(IMAGINED)
OBJ     := $(SRC:%.c=$(B)/obj/%.o)
# A program is a folder or a file of tools/ or perf/; a test is a file tests/*/test_*.c; tests share tests/*.c
TOOLS   := $(patsubst tools/%.c,%,$(wildcard tools/tutti-*.c))
PERFS   := $(patsubst perf/%.c,%,$(wildcard perf/tutti-*.c)) $(if $(wildcard perf/floor/floor.c),floor)
TESTS   := $(patsubst tests/%.c,%,$(filter-out $(if $(IMAGINED),,tests/darwin/%),$(wildcard tests/*/test_*.c)))
SHARED  := $(wildcard tests/*.c) $(if $(IMAGINED),tests/darwin/skips.c)
CORE    := $(B)/obj/core.a
TOOLLIB := $(B)/obj/tools.a
PERFLIB := $(B)/obj/perf.a
MODELLIB := $(B)/obj/transformer.a

.PHONY: all lib clean
.SECONDARY:
all: lib $(TOOLS:%=$(B)/bin/%) $(PERFS:%=$(B)/bin/%) aliases
SOLIB   := $(if $(filter darwin,$(OS)),libtutti.0.dylib,libtutti.so.0)
lib: $(B)/lib/$(SOLIB) $(B)/lib/libtutti.a $(B)/lib/tutti.pc

# Kernels of one instruction set are compiled for it, and entered only where the CPU has it.
$(B)/obj/src/kernel/%avx2.o: CFLAGS += $(if $(filter x86_64,$(ARCH)),-mavx2 -mf16c -mfma -mprfchw)
$(B)/obj/src/kernel/%avx512.o: CFLAGS += $(if $(filter x86_64,$(ARCH)),-mavx2 -mf16c -mprfchw -mavx512f -mavx512bw -mavx512vl -mavx512dq)

# The entries and the arithmetic are all that the smallest calls consist of: there, only functions with text on the stack.
$(B)/obj/src/api.o $(B)/obj/src/kernel/%.o: CFLAGS += $(if $(SAN),,-fstack-protector)

# These files take the place of the system.
$(IMAGINED:%.c=$(B)/obj/%.o) $(B)/obj/tests/darwin/skips.o $(patsubst %,$(B)/obj/tests/verbs/%.o,imaginary port wire cm): AS_A_MAC :=
# These files name Linux-only calls. They are compiled for Linux and linked with the library for macOS.
OF_LINUX := perf/floor/floor tests/fabrics tests/ranks $(patsubst tests/%.c,tests/%,$(wildcard tests/fault/test_*.c)) \
  tests/coll/test_core tests/coll/test_requests tests/libfabric/test_end tests/libfabric/test_traffic tests/libfabric/test_trust \
  tests/trust/test_bounds tests/trust/test_data tests/trust/test_dump tests/fuzz/fuzz_topo tests/verbs/test_rails tests/verbs/test_verbs \
  $(patsubst %,tests/unit/test_%,bootstrap queue run service tcp util)
$(OF_LINUX:%=$(B)/obj/%.o): AS_A_MAC :=

$(B)/obj/perf/transformer/loops_%.o: CFLAGS += -O3 -ffp-contract=fast
$(B)/obj/perf/transformer/loops_avx2.o: CFLAGS += $(if $(filter x86_64,$(ARCH)),-mavx2 -mf16c -mfma)
$(B)/obj/perf/transformer/loops_avx512.o: CFLAGS += $(if $(filter x86_64,$(ARCH)),-mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq)

# Each object names the headers that it includes in a file beside it.
$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(AS_A_MAC) $(CFLAGS) -MMD -MP -c -o $@ $<
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

$(B)/lib/libtutti.so.0: $(OBJ) src/tutti.map
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -shared -Wl,-soname,libtutti.so.0 -Wl,--version-script=src/tutti.map -Wl,-z,defs -Wl,-z,nodelete -Wl,--as-needed $(LDFLAGS) -o $@ $(OBJ) $(LIBS)
	@ln -sf libtutti.so.0 $(B)/lib/libtutti.so
# Programs find it where it was installed.
$(B)/lib/libtutti.0.dylib: $(OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -dynamiclib -install_name $(LIBDIR)/libtutti.0.dylib $(LDFLAGS) -o $@ $(OBJ) $(LIBS)
	@ln -sf libtutti.0.dylib $(B)/lib/libtutti.dylib
# What is installed shows tutti_* only, like the shared library; our programs and tests link all of it.
$(CORE): $(OBJ)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(OBJ)
ifeq ($(OS),darwin)
# Hidden names stay visible to what is linked with this one: the linker that makes one object of many is not everywhere.
$(B)/lib/libtutti.a: $(OBJ)
	@mkdir -p $(@D)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(OBJ)
else
$(B)/lib/libtutti.a: $(OBJ)
	@mkdir -p $(@D)
	$(call say,AR,$@)$(LD) -r -o $(B)/obj/tutti.o $(OBJ) && $(OBJCOPY) --localize-hidden $(B)/obj/tutti.o && \
	  rm -f $@ && $(AR) rcs $@ $(B)/obj/tutti.o
endif
$(B)/lib/tutti.pc: Makefile
	@mkdir -p $(@D)
	$(Q)printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$${prefix}/include' '' 'Name: tutti' \
	  'Description: collective communication for tensors in ordinary memory' 'Version: $(VERSION)' \
	  'Libs: -L$${libdir} -ltutti' 'Libs.private: $(LIBS)' 'Cflags: -I$${includedir}' > $@

# Programs use the static library, so that one file can be copied to another machine.
$(TOOLLIB): $(patsubst %.c,$(B)/obj/%.o,$(wildcard tools/*/*.c))
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^
$(PERFLIB): $(patsubst %.c,$(B)/obj/%.o,$(wildcard perf/lib/*.c tools/cli/*.c) tools/machine/system.c)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^
$(MODELLIB): $(patsubst %.c,$(B)/obj/%.o,$(wildcard perf/transformer/*.c))
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^
$(B)/bin/%: $(B)/obj/tools/%.o $(TOOLLIB) $(CORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $< $(TOOLLIB) $(CORE) $(JSON) $(HWLOC) $(LIBS)
$(B)/bin/%: $(B)/obj/perf/%.o $(MODELLIB) $(PERFLIB) $(CORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $< $(MODELLIB) $(PERFLIB) $(CORE) $(JSON) $(LIBS)
$(B)/bin/floor: $(B)/obj/perf/floor/floor.o
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $< -lpthread -lm
$(B)/tests/%: LDFLAGS += $(if $(IMAGINED),-Wl$(comma)--wrap=_cmocka_run_group_tests)
$(B)/tests/%: $(B)/obj/tests/%.o $(SHARED:%.c=$(B)/obj/%.o) $(TOOLLIB) $(MODELLIB) $(PERFLIB) $(CORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $< $(SHARED:%.c=$(B)/obj/%.o) $(TOOLLIB) $(MODELLIB) $(PERFLIB) $(CORE) $(JSON) $(HWLOC) $(LIBS) -lcmocka

# Programs and tests with one more row in the table of algorithms (tests/toy): theirs goes before the library's.
TOYS    := $(patsubst %,$(B)/toy/%,tutti-info tutti-topo tutti-perf test_plan test_volume)
TOY     := $(B)/obj/tests/toy/chain.o $(B)/obj/tests/toy/table.o
$(TOY): CFLAGS += -Isrc/algo
$(B)/toy/%: $(B)/obj/tools/%.o $(TOY) $(TOOLLIB) $(CORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $^ $(JSON) $(HWLOC) $(LIBS)
$(B)/toy/%: $(B)/obj/perf/%.o $(TOY) $(PERFLIB) $(CORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $^ $(JSON) $(LIBS)
$(B)/toy/%: $(B)/obj/tests/plan/%.o $(TOY) $(TOOLLIB) $(CORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $^ $(JSON) $(HWLOC) $(LIBS) -lcmocka

# An RDMA device for tests: takes the place of libibverbs where TUTTI_VERBS_LIB names it.
IMAGINARY := $(B)/tests/verbs/libimaginary.so
$(IMAGINARY): $(patsubst %,$(B)/obj/tests/verbs/%.o,imaginary port wire cm)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -shared $(LDFLAGS) -o $@ $^ -lpthread

# nccl-tests' names for tutti-perf
ALIASES := all_reduce_perf all_gather_perf reduce_scatter_perf broadcast_perf reduce_perf gather_perf scatter_perf alltoall_perf sendrecv_perf
.PHONY: aliases
aliases: $(if $(filter tutti-perf,$(PERFS)),$(B)/bin/tutti-perf)
	$(Q)for a in $(ALIASES); do ln -sf tutti-perf $(B)/bin/$$a; done

.PHONY: tests fuzzers
tests: all $(TESTS:%=$(B)/tests/%) $(TOYS) $(IMAGINARY)
RANKS   := $(patsubst tests/%.c,%,$(wildcard tests/rdma/*.c)) # programs whose ranks a script starts

# Fuzz targets: one function over a parser; the driver replays the corpus, then mutates it.
FUZZ    := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
fuzzers: $(FUZZ:%=$(B)/fuzz/%)
$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/driver.o $(TOOLLIB) $(MODELLIB) $(CORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $^ $(JSON) $(HWLOC) $(LIBS)

# ---- what people type ----

.PHONY: deps demo check check-full check-fuzz check-cross check-darwin check-macos check-rdma bench compare man layering format install uninstall
deps:
	$(Q)tools/setup.sh build

demo: deps
	$(Q)tools/setup.sh openblas || echo "demo: no OpenBLAS: the transformer's prefill takes plain loops"
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/demo.sh $(B)/bin

# Tests that start ranks find the programs beside them: $(B)/bin.
LIMIT   ?= 1200
check:
	$(Q)tools/setup.sh check
	$(Q)$(MAKE) --no-print-directory tests fuzzers man layering
	$(Q)tests/run.sh $(LIMIT) $(TESTS:%=$(B)/tests/%) $(wildcard tests/*/check_*.sh)
check-full:
	$(Q)TUTTI_TEST_FULL=1 $(MAKE) --no-print-directory check LIMIT=7200

check-fuzz: fuzzers
	$(Q)RUNS=$${RUNS:-200000} tests/run.sh 3600 tests/fuzz/check_fuzz.sh

# The rank-free tests and a small matrix on aarch64, under qemu-user.
check-cross:
	$(Q)tools/setup.sh cross
	$(Q)tests/cross.sh

# The macOS code on Linux, over an imaginary Darwin: tests/darwin/README.md. ONLY=contract takes a minute.
check-darwin:
	$(Q)tools/setup.sh check
	$(Q)$(MAKE) --no-print-directory OS=imaginary-darwin tests
	$(Q)CC="$(CC)" tests/darwin/suite.sh $(ONLY)

# The library for macOS, compiled and linked here: docs/macos.md.
check-macos:
	$(Q)tests/macos.sh

# On real verbs, with Soft-RoCE in a guest under qemu: tests/rdma/README.md. ONLY="shm tcp" runs some of it.
check-rdma:
	$(Q)tools/setup.sh rdma || echo "check-rdma: goes on with what there is"
	$(Q)$(MAKE) --no-print-directory tests $(RANKS:%=$(B)/tests/%)
	$(Q)TUTTI_TEST_ONLY="$(ONLY)" tests/run.sh 1300 tests/rdma/guest.sh; status=$$?; \
	  sed -n 's/^figure: /    /p' build/rdma/report.log 2>/dev/null; exit $$status

bench: all
	$(Q)$(B)/bin/floor && $(B)/bin/tutti-run -n 2 $(B)/bin/tutti-perf allreduce -b 8 -e 64M -f 4

# Beside Open MPI, MPICH and Gloo, where they can be had: all of it takes half an hour or more; ARGS narrows it:
# ARGS="-n 2 -t shm -c allreduce -d f32 -e 1M".
compare: deps
	$(Q)for peer in openmpi mpich gloo gnuplot; do tools/setup.sh $$peer || echo "compare: no $$peer"; done
	$(Q)$(MAKE) --no-print-directory all
	$(Q)perf/compare/compare.sh -a -B $(B) $(ARGS)

MANS    := $(TOOLS) $(filter tutti-%,$(PERFS))
man: all
	@mkdir -p $(B)/man
	$(Q)for p in $(MANS); do $(B)/bin/$$p --man > $(B)/man/$$p.1 || exit 1; done

layering:
	$(Q)tests/layering.sh

format:
	$(Q)clang-format -i $(shell git ls-files '*.c' '*.h')

install: all man
	$(Q)install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	$(Q)install -m 644 include/tutti.h $(DESTDIR)$(PREFIX)/include/
	$(Q)install -m 755 $(B)/lib/$(SOLIB) $(DESTDIR)$(LIBDIR)/
	$(Q)ln -sf $(SOLIB) $(DESTDIR)$(LIBDIR)/$(subst .0,,$(SOLIB))
	$(Q)install -m 644 $(B)/lib/libtutti.a $(DESTDIR)$(LIBDIR)/
	$(Q)sed -e 's|^prefix=.*|prefix=$(PREFIX)|' -e 's|^libdir=.*|libdir=$(LIBDIR)|' $(B)/lib/tutti.pc > $(DESTDIR)$(LIBDIR)/pkgconfig/tutti.pc
	$(Q)install -m 755 $(MANS:%=$(B)/bin/%) $(DESTDIR)$(PREFIX)/bin/
	$(Q)for a in $(ALIASES); do ln -sf tutti-perf $(DESTDIR)$(PREFIX)/bin/$$a; done
	$(Q)install -m 644 $(MANS:%=$(B)/man/%.1) $(DESTDIR)$(PREFIX)/share/man/man1/
uninstall:
	$(Q)rm -f $(DESTDIR)$(PREFIX)/include/tutti.h $(DESTDIR)$(LIBDIR)/libtutti.* $(DESTDIR)$(LIBDIR)/pkgconfig/tutti.pc \
	  $(MANS:%=$(DESTDIR)$(PREFIX)/bin/%) $(ALIASES:%=$(DESTDIR)$(PREFIX)/bin/%) $(MANS:%=$(DESTDIR)$(PREFIX)/share/man/man1/%.1)

clean:
	$(Q)rm -rf build build-*
